// Command certsync makes X.509 certificates follow a YAML spec.
package main

import (
	"errors"
	"os"
	"runtime/debug"
)

func main() { os.Exit(run(os.Args[1:])) }

// run carries out one command line and returns the exit code.
func run(args []string) int {
	tuneMemory()
	a := newApp()
	cmd := a.command()
	cmd.SetArgs(args)
	return a.finish(cmd.Execute())
}

// tuneMemory lets short runs end before the collector ever starts, and keeps
// those on very large specs within a bound: a plan of 100,000 certificates lives
// in less than a gigabyte. GOGC and GOMEMLIMIT still have their say.
func tuneMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(832 << 20)
	}
}

// exitError ends the program with a code other than 1 and without a message.
type exitError int

func (e exitError) Error() string { return "" }

// The exit codes: see docs/guide/reference-commands.md.
const (
	exitFailed     = 1
	exitChanges    = exitError(2)
	exitIncomplete = exitError(3)
)

// errReported marks a failure that has been told already.
var errReported = errors.New("")

// Command testreport reads what go test -json writes. It prints the closing line
// of each package as go test does, the output of what failed, and what was
// skipped. It fails if a test failed, and, with CI set, if one was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

type test struct{ pkg, name string }

func main() {
	outputs := map[test][]string{}
	var failed, skipped []test
	passed, broken := 0, 0
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // not from a test: what go itself has to say
			continue
		}
		t := test{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "build-fail":
			broken++
		case "output":
			outputs[t] = append(outputs[t], e.Output)
		case "pass":
			if e.Test != "" {
				passed++
				delete(outputs, t)
				continue
			}
			closing(outputs[t])
		case "fail":
			if e.Test != "" {
				failed = append(failed, t)
				continue
			}
			broken++
			for _, f := range failed {
				if f.pkg == e.Package {
					fmt.Print(strings.Join(outputs[f], ""))
				}
			}
			fmt.Print(strings.Join(outputs[t], ""))
		case "skip":
			if e.Test == "" {
				closing(outputs[t]) // a package without tests
				continue
			}
			skipped = append(skipped, t)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "error: read the test's output:", err)
		os.Exit(1)
	}
	for _, t := range skipped {
		fmt.Printf("skipped: %s in %s: %s\n", t.name, t.pkg, reason(outputs[t]))
	}
	fmt.Printf("%d tests passed, %d failed, %d skipped\n", passed, len(failed), len(skipped))
	switch {
	case broken > 0 || len(failed) > 0:
		os.Exit(1)
	case passed == 0:
		fmt.Fprintln(os.Stderr, "error: no test ran")
		os.Exit(1)
	case len(skipped) > 0 && os.Getenv("CI") != "":
		fmt.Fprintln(os.Stderr, "error: in CI no test may be skipped")
		os.Exit(1)
	}
}

// closing prints the line with which go test ends a package.
func closing(output []string) {
	for _, line := range output {
		if strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "?   \t") || strings.HasPrefix(line, "\t") {
			fmt.Print(line)
		}
	}
}

// reason returns why a test was skipped: the lines that are not go test's own.
func reason(output []string) string {
	var lines []string
	for _, line := range output {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}

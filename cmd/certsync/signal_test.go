package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is certsync as a process of its own.
type process struct {
	*exec.Cmd
	output strings.Builder
	ended  chan error
}

func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: selfCommand(t, dir, args...), ended: make(chan error, 1)}
	p.Stdout, p.Stderr = &p.output, &p.output
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill() }) // it has ended if all is well
	return p
}

// end waits for the process, and returns the signal that ended it, or 0.
func (p *process) end(t *testing.T) (syscall.Signal, int) {
	t.Helper()
	select {
	case err := <-p.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the process does not end")
	}
	status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		t.Fatalf("%T", p.ProcessState.Sys())
	}
	if status.Signaled() {
		return status.Signal(), -1
	}
	return 0, status.ExitStatus()
}

func selfCommand(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "certsync" // by which TestMain tells what to be
	cmd.Dir = dir
	return cmd
}

// fifo makes a named pipe. Opening it for writing waits until it is read.
func fifo(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func writer(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// A signal ends whatever waits for its input.
func TestSignalEndsReading(t *testing.T) {
	for _, args := range [][]string{{"validate", "-f"}, {"apply", "--yes", "-f"}, {"inspect"}} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			dir := t.TempDir()
			pipe := fifo(t, dir, "pipe")
			p := start(t, dir, append(args, pipe)...)
			writer(t, pipe)
			if err := p.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if by, code := p.end(t); by != sig {
				t.Errorf("%s, %v: exit code %d, ended by signal %v\n%s", args, sig, code, by, p.output.String())
			}
		}
	}
}

const slowSpec = `apiVersion: certsync/v1
issuers:
  ca: {ca: {commonName: CA, privateKey: {passwordFile: password}, files: {certificate: ca.crt, privateKey: ca.key}}}
certificates:
  a: {issuer: ca, commonName: a, files: {certificate: a.crt, privateKey: a.key}}
  b: {issuer: ca, commonName: b, files: {certificate: b.crt, privateKey: b.key}}
`

// An interrupted apply stops between two commits, and says how much is left.
func TestSignalDuringApply(t *testing.T) {
	dir := t.TempDir()
	pipe := fifo(t, dir, "password")
	if err := os.WriteFile(filepath.Join(dir, "certsync.yaml"), []byte(slowSpec), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, "apply", "--yes")
	password := writer(t, pipe)
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // until it is delivered
	if _, err := password.WriteString("secret"); err != nil {
		t.Fatal(err)
	}
	if err := password.Close(); err != nil {
		t.Fatal(err)
	}
	by, code := p.end(t)
	if by != 0 || code != exitFailed {
		t.Errorf("exit code %d, ended by signal %v", code, by)
	}
	if !strings.Contains(p.output.String(), "error: 3 not started: ") {
		t.Error(p.output.String())
	}
	for _, name := range []string{"ca.crt", "ca.key", "a.crt", "a.key"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
}

// A second signal does not wait.
func TestSecondSignalDuringApply(t *testing.T) {
	dir := t.TempDir()
	pipe := fifo(t, dir, "password")
	if err := os.WriteFile(filepath.Join(dir, "certsync.yaml"), []byte(slowSpec), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, "apply", "--yes")
	writer(t, pipe)
	for range 2 {
		if err := p.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // until it is delivered
	}
	if by, code := p.end(t); by != syscall.SIGINT {
		t.Errorf("exit code %d, ended by signal %v\n%s", code, by, p.output.String())
	}
}

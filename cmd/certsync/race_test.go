package main

import (
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
)

var inUse = regexp.MustCompile(`error: state directory \S+ is in use by pid \d+ \(certsync apply\) since `)

// Two applies at the same time: one at least is carried out, and who is not is
// told who is at it. What is there fits together whatever the order.
func TestTwoAtOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "certsync.yaml"), []byte(killSpec), 0o600); err != nil {
		t.Fatal(err)
	}
	rounds, lost := 60, 0
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		args := []string{"apply", "--yes", "--replace", "*"}
		if round == 0 {
			args = args[:2] // there is no state directory yet
		}
		both := []*process{start(t, dir, args...), start(t, dir, args...)}
		won := 0
		for _, p := range both {
			switch by, code := p.end(t); {
			case by != syscall.Signal(0):
				t.Fatalf("ended by signal %v\n%s", by, p.output.String())
			case code == 0:
				won++
			case code != exitFailed || !inUse.MatchString(p.output.String()):
				t.Fatalf("round %d: exit code %d\n%s", round, code, p.output.String())
			}
		}
		if won == 0 {
			t.Fatalf("round %d: nobody won\n%s\n%s", round, both[0].output.String(), both[1].output.String())
		}
		lost += 2 - won
		checkPairs(t, dir)
		if out, err := selfCommand(t, dir, "plan", "--detailed-exitcode").CombinedOutput(); err != nil {
			t.Fatalf("round %d: the next plan is not empty: %v\n%s", round, err, out)
		}
	}
	if lost == 0 {
		t.Error("no two were at it at the same time")
	}
	t.Logf("%d of %d found the lock taken", lost, 2*rounds)
}

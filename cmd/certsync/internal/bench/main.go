// Command bench measures certsync against other ways to do the same, in one run
// on one machine: absolute times say little about another machine, ratios do.
// What is compared runs in turns, and the medians count.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// The budgets: what a ratio must not exceed, or, for the shell loop, fall below.
const (
	applyBudget      = 1.0
	shellBudget      = 30.0
	planBudget       = 1.5
	growthBudget     = 1.5
	memoryBudget     = 1 << 30
	quickstartBudget = 3.0
)

func main() {
	var b bench
	flag.StringVar(&b.certsync, "certsync", "bin/certsync", "the program to measure")
	flag.StringVar(&b.floor, "floor", "bin/bench/floor", "the program to compare with")
	flag.StringVar(&b.dir, "dir", "bin/bench", "directory to work in, on a disk")
	flag.StringVar(&b.quickstart, "quickstart", "examples/quickstart/certsync.yaml", "the quickstart's spec")
	flag.BoolVar(&b.quick, "quick", false, "fewer runs, and no 100,000 certificates")
	flag.BoolVar(&b.cluster, "cluster", false, "what needs a Kubernetes cluster, and nothing else")
	flag.Parse()
	if err := b.run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type bench struct {
	certsync, floor, dir, quickstart string
	quick, cluster                   bool
	over                             int
	shell                            float64 // seconds a certificate
}

func (b *bench) run() (err error) {
	for _, p := range []*string{&b.certsync, &b.floor, &b.dir, &b.quickstart} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp(b.dir, "run-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.describe()
	if b.cluster {
		return b.benchRequests()
	}
	if err := b.benchQuickstart(); err != nil {
		return err
	}
	if err := b.benchShell(); err != nil {
		return err
	}
	var growth []measured
	for _, size := range b.sizes() {
		m, err := b.benchSize(size)
		if err != nil {
			return err
		}
		growth = append(growth, m)
	}
	b.reportGrowth(growth)
	if err := b.benchRequests(); err != nil {
		return err
	}
	fmt.Printf("\n%d over budget\n", b.over)
	return nil
}

// size is a number of certificates, and how often to measure with so many.
type size struct {
	n, applies, plans int
	compare           bool // with the floor, as a budget
}

func (b *bench) sizes() []size {
	if b.quick {
		return []size{{1_000, 3, 5, true}, {10_000, 1, 3, true}}
	}
	return []size{{1_000, 5, 11, true}, {10_000, 3, 7, true}, {100_000, 1, 3, false}}
}

func (b *bench) describe() {
	openssl, _ := exec.Command("openssl", "version").Output()
	fmt.Printf("%s, %d processors, %s\n", runtime.Version(), runtime.NumCPU(), strings.TrimSpace(string(openssl)))
	fs, err := exec.Command("stat", "-f", "-c", "%T", b.dir).Output() // GNU stat
	if kind := strings.TrimSpace(string(fs)); err == nil {
		fmt.Printf("files on %s\n", kind)
		if kind == "tmpfs" || kind == "ramfs" {
			fmt.Println("warning: nothing is durable in memory; use -dir to name a directory on a disk")
		}
	}
}

// benchQuickstart compares a plan of the quickstart with one call of openssl.
func (b *bench) benchQuickstart() error {
	dir := filepath.Join(b.dir, "quickstart")
	spec := filepath.Join(dir, "certsync.yaml")
	data, err := os.ReadFile(b.quickstart)
	if err != nil {
		return err
	}
	if err := writeFile(spec, data); err != nil {
		return err
	}
	if _, err := execute(b.certsync, "-f", spec, "apply", "--yes"); err != nil {
		return err
	}
	cert := filepath.Join(dir, "pki/k8s-apiserver.crt")
	plan, text, err := inTurns(51, nil,
		[]string{b.certsync, "-f", spec, "plan"},
		[]string{"openssl", "x509", "-in", cert, "-noout", "-text"})
	if err != nil {
		return err
	}
	fmt.Println("\nquickstart")
	b.atMost("plan", plan, "openssl x509 -noout -text", text, quickstartBudget)
	return nil
}

// benchShell measures openssl commands in a shell loop.
func (b *bench) benchShell() error {
	const n = 100
	dir := filepath.Join(b.dir, "shell")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	script := fmt.Sprintf(`set -e
cd %q
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -subj /CN=bench -days 3650 -out ca.crt
for i in $(seq %d); do
	openssl ecparam -name prime256v1 -genkey -noout -out $i.key
	openssl req -new -key $i.key -subj /CN=host-$i -out $i.csr
	printf 'subjectAltName=DNS:host-%%s.example.com\nextendedKeyUsage=serverAuth\n' $i >$i.ext
	openssl x509 -req -in $i.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 90 -extfile $i.ext -out $i.crt
done`, dir, n)
	runs := make([]usage, 0, 3)
	for range cap(runs) {
		u, err := execute("bash", "-c", script)
		if err != nil {
			return err
		}
		runs = append(runs, u)
	}
	b.shell = median(runs).wall.Seconds() / n
	return nil
}

// measured is what one size took.
type measured struct {
	n           int
	apply, plan usage
}

func (b *bench) benchSize(s size) (measured, error) {
	m := measured{n: s.n}
	fmt.Printf("\n%s certificates\n", thousands(s.n))
	dir, floorDir := filepath.Join(b.dir, "certsync"), filepath.Join(b.dir, "floor")
	spec := filepath.Join(dir, "certsync.yaml")
	text := specOf(s.n)
	fresh := func() error {
		if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(floorDir), os.MkdirAll(floorDir, 0o755)); err != nil {
			return err
		}
		return writeFile(spec, text)
	}
	apply := []string{b.certsync, "-f", spec, "apply", "--yes"}
	var floor usage
	var err error
	if s.compare {
		m.apply, floor, err = inTurns(s.applies, fresh, apply, []string{b.floor, "apply", floorDir, fmt.Sprint(s.n)})
	} else {
		m.apply, _, err = inTurns(s.applies, fresh, apply, nil)
	}
	if err != nil {
		return m, err
	}
	if s.compare {
		b.atMost("apply", m.apply, "plain loop, each file synced", floor, applyBudget)
	} else {
		fmt.Printf("  apply %s\n", m.apply)
	}
	b.shellRatio(m.apply, s.n)

	plan := []string{b.certsync, "-f", spec, "plan"}
	m.plan, floor, err = inTurns(s.plans, nil, plan, []string{b.floor, "plan", spec})
	if err != nil {
		return m, err
	}
	if err := checkEmpty(plan); err != nil {
		return m, err
	}
	if s.compare {
		b.atMost("plan", m.plan, "plain read and compare", floor, planBudget)
	} else {
		fmt.Printf("  plan   %s  %-30s %s  ratio %5.2f\n", m.plan, "plain read and compare", floor, m.plan.wall.Seconds()/floor.wall.Seconds())
	}
	verdict := b.verdict(m.plan.rss <= memoryBudget)
	fmt.Printf("  %-6s %-38s %4d MiB  budget 1024 MiB  %s\n", "plan", "peak memory", m.plan.rss>>20, verdict)
	return m, nil
}

// checkEmpty makes sure that a plan that was measured had nothing to do.
func checkEmpty(plan []string) error {
	out, err := exec.Command(plan[0], append(plan[1:], "--detailed-exitcode")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the plan is not empty: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (b *bench) reportGrowth(sizes []measured) {
	fmt.Println("\ngrowth")
	least := math.Inf(1) // of the sizes so far: linear time is the same for each certificate
	for _, m := range sizes {
		perCert := func(u usage) float64 { return float64(u.wall.Microseconds()) / float64(m.n) }
		least = min(least, perCert(m.plan))
		factor := perCert(m.plan) / least
		fmt.Printf("  %8s  plan %6.1f µs each, ×%.2f of the least before  budget ≤ %.1f  %-4s  %4d MiB   apply %7.1f µs each\n",
			thousands(m.n), perCert(m.plan), factor, growthBudget, b.verdict(factor <= growthBudget), m.plan.rss>>20, perCert(m.apply))
	}
}

// atMost prints how one thing compares with another.
func (b *bench) atMost(what string, u usage, against string, floor usage, budget float64) {
	ratio := u.wall.Seconds() / floor.wall.Seconds()
	fmt.Printf("  %-6s %s  %-30s %s  ratio %5.2f  budget ≤ %4.1f  %-4s  (CPU %.2f)\n",
		what, u, against, floor, ratio, budget, b.verdict(ratio <= budget), u.cpu.Seconds()/floor.cpu.Seconds())
}

func (b *bench) shellRatio(u usage, n int) {
	factor := b.shell * float64(n) / u.wall.Seconds()
	fmt.Printf("  %-6s %.1f times as fast as openssl in a shell loop, %.1f ms each  budget ≥ %.0f  %s\n",
		"apply", factor, b.shell*1000, shellBudget, b.verdict(factor >= shellBudget))
}

func (b *bench) verdict(ok bool) string {
	if ok {
		return "ok"
	}
	b.over++
	return "OVER"
}

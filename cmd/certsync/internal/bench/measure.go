package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what one run of a program took.
type usage struct {
	wall, cpu time.Duration
	rss       int64 // bytes
}

func (u usage) String() string { return fmt.Sprintf("%9.1f ms", float64(u.wall.Microseconds())/1000) }

// execute runs a program to its end.
func execute(name string, args ...string) (usage, error) {
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return usage{}, fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	u := usage{wall: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rss = r.Maxrss
		if runtime.GOOS != "darwin" {
			u.rss <<= 10
		}
	}
	return u, nil
}

// inTurns runs a and b so many times in turns and returns the medians. before, if
// not nil, prepares each turn. b may be nil.
func inTurns(turns int, before func() error, a, b []string) (usage, usage, error) {
	var as, bs []usage
	for i := range turns {
		if before != nil {
			if err := before(); err != nil {
				return usage{}, usage{}, err
			}
		}
		order := []struct {
			command []string
			into    *[]usage
		}{{a, &as}, {b, &bs}}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, o := range order {
			if o.command == nil {
				continue
			}
			if before != nil {
				syscall.Sync() // so that nobody pays for what another one wrote
			}
			u, err := execute(o.command[0], o.command[1:]...)
			if err != nil {
				return usage{}, usage{}, err
			}
			*o.into = append(*o.into, u)
		}
	}
	return median(as), median(bs), nil
}

// median returns the run with the median wall time.
func median(runs []usage) usage {
	if len(runs) == 0 {
		return usage{}
	}
	slices.SortFunc(runs, func(a, b usage) int { return int(a.wall - b.wall) })
	return runs[len(runs)/2]
}

// specOf returns a spec with so many certificates, each written out.
func specOf(n int) []byte {
	var s strings.Builder
	s.WriteString(`apiVersion: certsync/v1
issuers:
  root:
    ca:
      commonName: bench
      files: {certificate: ca.crt, privateKey: ca.key}
defaults:
  issuer: root
  profile: server
certificates:
`)
	for i := range n {
		name := fmt.Sprintf("host-%06d", i)
		base := fmt.Sprintf("pki/%03d/%s", i/1000, name)
		fmt.Fprintf(&s, "  %s:\n    dnsNames: [%s.example.com]\n    files:\n      certificate: %s.crt\n      privateKey: %s.key\n", name, name, base, base)
	}
	return []byte(s.String())
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// thousands writes 10000 as 10,000.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return thousands(n/1000) + fmt.Sprintf(",%03d", n%1000)
}

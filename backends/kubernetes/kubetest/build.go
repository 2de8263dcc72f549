package kubetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Programs are the paths of what a control plane is made of.
type Programs struct {
	Etcd, APIServer, ControllerManager string
}

// Build returns the programs of the control plane, and builds them if they are not
// in the user's cache. Then it takes a quarter of an hour on a small machine and
// needs a Go module proxy; what it is doing goes to progress. Of several that build
// at the same time one does, and the others wait. After an error the cache is as it
// was, but for Go's own, from which the next attempt goes on.
func Build(ctx context.Context, progress io.Writer) (Programs, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return Programs{}, err
	}
	modules := filepath.Join(root, "backends", "kubernetes", "kubetest", "controlplane")
	kubernetes, err := readModule(filepath.Join(modules, "kubernetes"), "k8s.io/kubernetes")
	if err != nil {
		return Programs{}, err
	}
	etcd, err := readModule(filepath.Join(modules, "etcd"), "go.etcd.io/etcd/server/v3")
	if err != nil {
		return Programs{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Programs{}, err
	}
	dir := filepath.Join(cache, "certsync", "controlplane", cacheKey(kubernetes, etcd))
	programs := Programs{
		Etcd:              filepath.Join(dir, "etcd"),
		APIServer:         filepath.Join(dir, "kube-apiserver"),
		ControllerManager: filepath.Join(dir, "kube-controller-manager"),
	}
	// The directory appears when it is complete, so this needs no lock.
	if _, err := os.Stat(dir); err == nil {
		return programs, nil
	}
	unlock, err := lock(ctx, dir+".lock", progress)
	if err != nil {
		return Programs{}, err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return programs, nil
	}

	partial := dir + ".partial" // only who holds the lock touches it
	if err := os.RemoveAll(partial); err != nil {
		return Programs{}, err
	}
	defer func() { _ = os.RemoveAll(partial) }() // the next build would, too
	if err := os.Mkdir(partial, 0o755); err != nil {
		return Programs{}, err
	}
	fmt.Fprintf(progress, "building etcd %s and Kubernetes %s into %s, once\n", etcd.version, kubernetes.version, dir)
	err = etcd.build(ctx, progress, filepath.Join(partial, "etcd"), "-s -w", "go.etcd.io/etcd/server/v3")
	if err != nil {
		return Programs{}, err
	}
	// Without its version an apiserver says v0.0.0-master, which clients cannot parse.
	flags := "-s -w -X k8s.io/component-base/version.gitVersion=" + kubernetes.version
	err = kubernetes.build(ctx, progress, partial+string(filepath.Separator), flags,
		"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager")
	if err != nil {
		return Programs{}, err
	}
	return programs, os.Rename(partial, dir)
}

// A module lists what is built, and exactly which versions of it. It is a module of
// its own so that ours does not get its dependencies.
type module struct {
	dir     string
	version string // of what is built
	digest  []byte // of all versions
}

func readModule(dir, path string) (module, error) {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return module{}, err
	}
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return module{}, err
	}
	version := regexp.MustCompile(`(?m)\b` + regexp.QuoteMeta(path) + ` (v\S+)`).FindSubmatch(mod)
	if version == nil {
		return module{}, fmt.Errorf("%s/go.mod does not require %s", dir, path)
	}
	digest := sha256.Sum256(append(mod, sum...))
	return module{dir: dir, version: string(version[1]), digest: digest[:]}, nil
}

// cacheKey names all that the programs depend on.
func cacheKey(kubernetes, etcd module) string {
	digest := sha256.Sum256(append(bytes.Clone(kubernetes.digest), etcd.digest...))
	return strings.Join([]string{
		kubernetes.version, "etcd", etcd.version, runtime.GOOS, runtime.GOARCH, runtime.Version(), hex.EncodeToString(digest[:4]),
	}, "-")
}

// build runs go build in the module.
func (m module) build(ctx context.Context, progress io.Writer, output, ldflags string, packages ...string) error {
	args := []string{"build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", output}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	// An interrupt lets go clean up after itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopWithin
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var downloaded, compiled atomic.Int64
	began := time.Now()
	tell := func(state string) {
		fmt.Fprintf(progress, "%s: %s, %d modules downloaded, %d packages compiled, %s\n",
			strings.Join(packages, ", "), state, downloaded.Load(), compiled.Load(), time.Since(began).Round(time.Second))
	}
	finished := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		ticker := time.NewTicker(15 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				tell("building")
			case <-finished:
				return
			}
		}
	}()
	var rest []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "go: downloading "):
			downloaded.Add(1)
		case !strings.Contains(line, " "): // go build -v: the path of a package
			compiled.Add(1)
		default:
			rest = append(rest, line)
		}
	}
	err = cmd.Wait()
	close(finished)
	<-told
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("go build %s: %w\n%s", strings.Join(packages, " "), err, strings.Join(rest[max(0, len(rest)-20):], "\n"))
	}
	tell("done")
	return nil
}

// moduleRoot returns the directory of certsync's module.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/certsync/certsync").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("find certsync's module: %w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return "", fmt.Errorf("find certsync's module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// lock takes the lock file, which the kernel gives back when this process ends.
func lock(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for waited := 0; ; waited++ {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if waited%150 == 0 {
			fmt.Fprintf(progress, "waiting for another build of the control plane, which holds %s\n", path)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		case <-time.After(poll):
		}
	}
}

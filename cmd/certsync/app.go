package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/backends/kubernetes"
	"github.com/certsync/certsync/backends/localca"
	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// app is what all commands share: where they read and write, and the flags that
// stand before the command.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	storeOptions   []files.Option
	clusters       clusters

	specs    []string
	stateDir string
	set      []string
	verbose  bool
}

func newApp() *app {
	return &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now}
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "certsync",
		Short: "Make X.509 certificates follow a YAML spec",
		Long: `certsync makes X.509 certificates follow a YAML spec: it compares the CA, server
and client certificates that you describe with the files on disk, says what it
would do and why (plan), and does it (apply): issues, renews, replaces, repairs.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	flags := root.PersistentFlags()
	flags.StringArrayVarP(&a.specs, "file", "f", nil, "spec `PATH`, a file or a directory (default certsync.yaml, else /etc/certsync/); may be given several times")
	flags.StringVar(&a.stateDir, "state-dir", "", "state `DIR` (default $STATE_DIRECTORY, else .certsync beside the spec)")
	flags.StringArrayVar(&a.set, "set", nil, "set a variable of the spec: `NAME=VALUE`; may be given several times")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log what is done to standard error")
	root.AddCommand(a.commands()...)
	strict(root)
	return root
}

// finish reports an error and returns the exit code.
func (a *app) finish(err error) int {
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case !errors.Is(err, errReported):
		view.Error(a.stderr, err)
	}
	return exitFailed
}

// load reads the spec that the flags name, and shows its warnings.
func (a *app) load() (*spec.Spec, error) {
	sp, err := a.loadSilently()
	if err == nil {
		view.Warnings(a.stderr, sp.Warnings)
	}
	return sp, err
}

// loadSilently is load without the warnings.
func (a *app) loadSilently() (*spec.Spec, error) {
	paths := a.specs
	if len(paths) == 0 {
		paths = []string{defaultSpec()}
	}
	set := make(map[string]string, len(a.set))
	for _, assignment := range a.set {
		name, value, ok := strings.Cut(assignment, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--set %s: want NAME=VALUE", assignment)
		}
		set[name] = value
	}
	sp, err := spec.Load(paths, spec.Options{Set: set, StateDir: a.stateDirectory})
	if err != nil {
		if len(a.specs) == 0 && errors.Is(err, os.ErrNotExist) {
			return nil, withHint(fmt.Errorf("no spec: neither certsync.yaml here nor %s exists", systemSpec), "write one with certsync init, or name one with -f PATH")
		}
		return nil, err
	}
	return sp, nil
}

const systemSpec = "/etc/certsync"

func defaultSpec() string {
	if _, err := os.Lstat("certsync.yaml"); err == nil {
		return "certsync.yaml"
	}
	return systemSpec
}

// open loads the spec and opens the files and the state directory that belong to it.
func (a *app) open() (*spec.Spec, *files.Store, error) {
	sp, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	store, err := files.Open(a.stateDirectory(sp.Dir), append([]files.Option{files.WithLogger(a.logger())}, a.storeOptions...)...)
	return sp, store, err
}

// look opens the spec and its files, and observes them.
func (a *app) look(ctx context.Context) (*spec.Spec, *files.Store, *reconcile.State, error) {
	sp, store, err := a.open()
	if err != nil {
		return nil, nil, nil, err
	}
	state, err := a.observe(ctx, sp, store)
	return sp, store, state, err
}

func (a *app) observe(ctx context.Context, sp *spec.Spec, store *files.Store) (*reconcile.State, error) {
	state, err := reconcile.Observe(ctx, sp, a.backends(store))
	for _, n := range store.Notices() {
		view.Notice(a.stderr, n.Message)
	}
	return state, err
}

// stateDirectory returns the state directory for a spec whose first file is in dir.
func (a *app) stateDirectory(dir string) string {
	if a.stateDir != "" {
		return a.stateDir
	}
	// systemd names several directories with colons between; the first is ours.
	if state, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); state != "" {
		return state
	}
	return filepath.Join(dir, ".certsync")
}

func (a *app) logger() *slog.Logger {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

// backends wires the engine to the store and the issuers.
func (a *app) backends(store *files.Store) reconcile.Backends {
	b := reconcile.Backends{Store: store, Objects: kubernetes.NewObjects(a.clusters.get), Password: files.Secret, Input: files.Input}
	b.OpenIssuer = func(ctx context.Context, i *spec.Issuer, ca *x509.Certificate) (reconcile.Issuer, error) {
		return localca.Open(ctx, b, i.CA, ca, files.Secret)
	}
	b.OpenRemote = a.clusters.openRemote
	b.ClusterCA = a.clusters.ca
	b.Anchors = func(ctx context.Context, i *spec.Issuer) ([]*x509.Certificate, error) {
		return a.clusters.anchors(ctx, store, i)
	}
	return b
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }
func (h hinted) Hint() string  { return h.hint }

func withHint(err error, hint string) error { return hinted{err, hint} }

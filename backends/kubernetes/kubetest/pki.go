package kubetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/certsync/certsync/reconcile/pki"
)

// variables are those of the example that differ here.
func (c *ControlPlane) variables() map[string]string {
	_, port, _ := strings.Cut(strings.TrimPrefix(c.URL, "https://"), ":")
	return map[string]string{
		"node":     Node,
		"address":  "127.0.0.1",
		"endpoint": "localhost",
		"port":     port,
	}
}

// makePKI builds certsync, and has it issue all that the example states.
func (c *ControlPlane) makePKI(ctx context.Context) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	c.certsync = filepath.Join(c.Dir, "certsync")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", c.certsync, "./cmd/certsync")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build certsync: %w\n%s", err, out)
	}
	spec, err := os.ReadFile(filepath.Join(root, "examples", "kubernetes-pki", "certsync.yaml"))
	if err != nil {
		return err
	}
	// The values go into the spec, so that a person who runs certsync in the
	// directory does not have to know them.
	for name, value := range c.variables() {
		line := regexp.MustCompile(`(?m)^  ` + name + `: \S+`)
		if n := len(line.FindAllIndex(spec, -1)); n != 1 {
			return fmt.Errorf("the example states the variable %s %d times", name, n)
		}
		spec = line.ReplaceAll(spec, []byte("  "+name+": "+value))
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "certsync.yaml"), spec, 0o644); err != nil {
		return err
	}
	if out, err := c.Certsync(ctx, "apply", "--yes"); err != nil {
		return fmt.Errorf("certsync apply: %w\n%s", err, out)
	}
	return nil
}

// Certsync runs certsync with all specs in Dir, and returns what it wrote.
func (c *ControlPlane) Certsync(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"-f", c.Dir, "--state-dir", filepath.Join(c.Dir, ".certsync")}, args...)
	out, err := exec.CommandContext(ctx, c.certsync, args...).CombinedOutput()
	return string(out), err
}

// pair reads the certificate pki/NAME.crt with its key, or that of the kubeconfig
// NAME.conf.
func (c *ControlPlane) pair(name string) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.pki(name+".crt"), c.pki(name+".key"))
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	text, err := os.ReadFile(c.Kubeconfig(name))
	if err != nil {
		return pair, err
	}
	config, err := pki.ParseKubeconfig(text)
	if err != nil {
		return pair, err
	}
	user := config.User("")
	if user == nil {
		return pair, errors.New("the kubeconfig has no user")
	}
	if !user.HoldsKey() {
		return tls.LoadX509KeyPair(user.CertificateFile, user.KeyFile)
	}
	key, _, err := user.Key()
	if err != nil {
		return pair, err
	}
	chain, err := user.Chain()
	if err != nil {
		return pair, err
	}
	pair = tls.Certificate{PrivateKey: key.Signer(), Leaf: chain[0]}
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return pair, nil
}

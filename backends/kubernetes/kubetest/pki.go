package kubetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// variables are those of the example that differ here.
var variables = map[string]string{
	"node":     Node,
	"address":  "127.0.0.1",
	"endpoint": "localhost",
}

// makePKI builds certsync, has it issue all that the example states, and writes
// the kubeconfigs.
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
	for name, value := range variables {
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
	for name, certificate := range map[string]string{
		"admin":              "admin",
		"super-admin":        "super-admin",
		"controller-manager": "controller-manager",
		"scheduler":          "scheduler",
		"kubelet":            "kubelet-client",
	} {
		if err := c.WriteKubeconfig(name, certificate); err != nil {
			return err
		}
	}
	return nil
}

// Certsync runs certsync with all specs in Dir, and returns what it wrote.
func (c *ControlPlane) Certsync(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"-f", c.Dir, "--state-dir", filepath.Join(c.Dir, ".certsync")}, args...)
	out, err := exec.CommandContext(ctx, c.certsync, args...).CombinedOutput()
	return string(out), err
}

// WriteKubeconfig writes the kubeconfig NAME for the certificate pki/CERTIFICATE.crt
// and its key. It names the files, and so goes on to work when they are replaced.
func (c *ControlPlane) WriteKubeconfig(name, certificate string) error {
	text := strings.NewReplacer(
		"URL", c.URL,
		"CA", fmt.Sprintf("%q", c.pki("ca.crt")),
		"CERTIFICATE", fmt.Sprintf("%q", c.pki(certificate+".crt")),
		"KEY", fmt.Sprintf("%q", c.pki(certificate+".key")),
		"USER", fmt.Sprintf("%q", name),
	).Replace(kubeconfig)
	return os.WriteFile(c.Kubeconfig(name), []byte(text), 0o600)
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- name: kubetest
  cluster: {server: "URL", certificate-authority: CA}
users:
- name: USER
  user: {client-certificate: CERTIFICATE, client-key: KEY}
contexts:
- name: kubetest
  context: {cluster: kubetest, user: USER}
current-context: kubetest
`

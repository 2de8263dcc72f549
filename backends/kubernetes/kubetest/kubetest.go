// Package kubetest starts a real Kubernetes control plane for tests and for people
// who want to look at one: etcd, kube-apiserver and kube-controller-manager on
// 127.0.0.1, on free ports, with a PKI that certsync issues from
// examples/kubernetes-pki.
//
// The programs are built from source by Build, once for each version, and kept in
// the user's cache. Whoever imports this package needs the go command and has to
// be in certsync's own module, whose program and example it uses.
//
// There are no nodes: no kubelet, no scheduler, nothing runs in the cluster. What
// ends with the control plane is everything in it.
package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// readyWithin is how long the control plane has to become ready.
	readyWithin = 30 * time.Second
	// stopWithin is how long one of its programs has to end when it is asked to.
	stopWithin = 5 * time.Second
	// poll is how often something is asked whether it is ready.
	poll = 100 * time.Millisecond
)

// Node is the name of the only node that the PKI knows.
const Node = "control-plane"

// A ControlPlane is running until it is stopped. Its methods may be called
// concurrently, except for Stop, Halt and Resume.
type ControlPlane struct {
	// Dir is a directory of its own. It holds the spec, certsync.yaml, beside
	// which others may be put; what certsync issued from them, in pki/, and in
	// kubeconfigs, NAME.conf; and for each program a log, NAME.log. Others may use
	// the variables of the spec: ${vars.endpoint} and ${vars.port}.
	Dir string

	URL         string // where the apiserver is, https://127.0.0.1:PORT
	EtcdURL     string // where etcd serves its clients
	EtcdPeerURL string // and the other members of its cluster

	certsync  string // the program
	programs  Programs
	processes []*process
}

// Start starts a control plane that ends with the test. Where it cannot be built
// it skips the test with the reason, as it does with -short; with CI set it fails
// or goes on instead.
func Start(t testing.TB) *ControlPlane {
	t.Helper()
	ci := os.Getenv("CI") != ""
	if testing.Short() && !ci {
		t.Skip("a control plane takes its time, and -short is set")
	}
	ctx := t.Context()
	building := ctx
	if limited, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := limited.Deadline(); ok {
			var cancel context.CancelFunc
			building, cancel = context.WithDeadline(ctx, deadline.Add(-2*time.Minute))
			defer cancel()
		}
	}
	programs, err := Build(building, os.Stderr)
	if err != nil {
		err = fmt.Errorf("build the control plane; make control-plane-build does it without a time limit: %w", err)
		if ci {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c, err := Run(ctx, programs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, p := range c.processes {
				t.Logf("the end of %s.log:\n%s", p.name, p.tail())
			}
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Run starts a control plane and returns it when it is ready. After an error, and
// when the context ends before that, nothing is left of it.
func Run(ctx context.Context, programs Programs) (*ControlPlane, error) {
	for attempt := 1; ; attempt++ {
		c, err := runOnce(ctx, programs)
		if err == nil {
			return c, nil
		}
		// Somebody took a port between the moment it was found to be free and
		// the one in which the program wanted it.
		if attempt == 3 || !strings.Contains(err.Error(), "address already in use") {
			return nil, err
		}
	}
}

func runOnce(ctx context.Context, programs Programs) (_ *ControlPlane, err error) {
	dir, err := os.MkdirTemp("", "certsync-control-plane-")
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{Dir: dir, programs: programs}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	c.URL = "https://" + ports[0]
	c.EtcdURL = "https://" + ports[1]
	c.EtcdPeerURL = "https://" + ports[2]

	if err := c.makePKI(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := c.startEtcd(ctx, programs.Etcd); err != nil {
		return nil, err
	}
	if err := c.Resume(ctx, APIServer); err != nil {
		return nil, err
	}
	if err := c.bindRoles(ctx); err != nil {
		return nil, err
	}
	if err := c.Resume(ctx, ControllerManager); err != nil {
		return nil, err
	}
	return c, nil
}

// The programs that can be halted and resumed.
const (
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
)

// Halt ends a program as if its machine had gone down; what is stored stays.
func (c *ControlPlane) Halt(name string) error {
	i := slices.IndexFunc(c.processes, func(p *process) bool { return p.name == name })
	if i < 0 {
		return fmt.Errorf("%s is not running", name)
	}
	p := c.processes[i]
	c.processes = slices.Delete(c.processes, i, i+1)
	return p.stop(stopWithin)
}

// Resume starts a program that was halted, with more flags if there are any, and
// returns when it is ready.
func (c *ControlPlane) Resume(ctx context.Context, name string, flags ...string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if name == APIServer {
		return c.startAPIServer(ctx, c.programs.APIServer, flags)
	}
	return c.startControllerManager(ctx, c.programs.ControllerManager, flags)
}

// Stop ends all programs, the last one first, and removes the directory. A second
// Stop does nothing.
func (c *ControlPlane) Stop() error {
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		errs = append(errs, c.processes[i].stop(stopWithin))
	}
	c.processes = nil
	return errors.Join(append(errs, os.RemoveAll(c.Dir))...)
}

// Wait waits until the context ends. If one of the programs ends before that, it
// returns an error that says which and why.
func (c *ControlPlane) Wait(ctx context.Context) error {
	ended := make(chan *process, len(c.processes))
	for _, p := range c.processes {
		go func() {
			select {
			case <-p.done:
				ended <- p
			case <-ctx.Done():
			}
		}()
	}
	select {
	case p := <-ended:
		return p.death()
	case <-ctx.Done():
		return nil
	}
}

// Kubeconfig returns the path of a kubeconfig: "admin", "super-admin",
// "controller-manager", "scheduler", "kubelet", and those of other specs in Dir.
func (c *ControlPlane) Kubeconfig(name string) string {
	return filepath.Join(c.Dir, name+".conf")
}

// TLS returns the configuration of a client that trusts the CA whose certificate
// is pki/CA.crt, and shows the certificate pki/NAME.crt with its key, or that of the
// kubeconfig NAME.conf. Without a name it has none.
func (c *ControlPlane) TLS(ca, name string) (*tls.Config, error) {
	anchor, err := os.ReadFile(c.pki(ca + ".crt"))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !config.RootCAs.AppendCertsFromPEM(anchor) {
		return nil, fmt.Errorf("read %s: no certificate", c.pki(ca+".crt"))
	}
	if name != "" {
		pair, err := c.pair(name)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", name, err)
		}
		// Shown whatever the server asks for: a test wants to see it refused there
		// and not held back here.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &pair, nil
		}
	}
	return config, nil
}

// Client returns a client of the apiserver with the certificate of TLS, or with
// none. It connects anew for each request.
func (c *ControlPlane) Client(name string) (*http.Client, error) {
	return c.client("ca", name)
}

func (c *ControlPlane) client(ca, name string) (*http.Client, error) {
	config, err := c.TLS(ca, name)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
		Timeout:   10 * time.Second,
	}, nil
}

func (c *ControlPlane) pki(path ...string) string {
	return filepath.Join(append([]string{c.Dir, "pki"}, path...)...)
}

// start starts a program and returns when ready says that it is.
func (c *ControlPlane) start(ctx context.Context, name, program string, args []string, ready func(context.Context) error) error {
	p, err := startProcess(name, filepath.Join(c.Dir, name+".log"), program, args)
	if err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.death()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w\n%s", name, context.Cause(ctx), err, p.tail())
		case <-time.After(poll):
		}
	}
}

// do sends a request and returns the answer's body. An answer that is no success
// is an error.
func do(ctx context.Context, client *http.Client, method, url, body string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode/100 != 2 {
		return text, fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, bytes.TrimSpace(text))
	}
	return text, nil
}

// freePorts returns addresses on 127.0.0.1 that are free, and differ.
func freePorts(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

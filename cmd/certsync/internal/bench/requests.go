package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/certsync/certsync/backends/kubernetes/kubetest"
)

// requestsBudget is for certificates of a cluster, against a loop of the same calls.
const requestsBudget = 1.5

const requested = 200

// builtWithin is how long it may take to find out that the control plane is built.
const builtWithin = 15 * time.Second

// benchRequests compares what a cluster signs for certsync with a plain loop.
func (b *bench) benchRequests() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), builtWithin)
	defer cancel()
	programs, err := kubetest.Build(ctx, io.Discard)
	if err != nil {
		fmt.Println("\nKubernetes is left out: make control-plane-build builds what it takes")
		return nil
	}
	c, err := kubetest.Run(context.Background(), programs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	// By default the signer asks 20 times a second, which would be all that is measured.
	if err := c.Halt(kubetest.ControllerManager); err != nil {
		return err
	}
	if err := c.Resume(context.Background(), kubetest.ControllerManager, "--kube-api-qps=2000", "--kube-api-burst=4000"); err != nil {
		return err
	}
	dir, floorDir := filepath.Join(b.dir, "requests"), filepath.Join(b.dir, "requests-floor")
	spec := filepath.Join(dir, "certsync.yaml")
	text := fmt.Sprintf(`apiVersion: certsync/v1
clusters: {bench: {kubeconfig: %q}}
issuers:
  clients: {kubernetes: {cluster: bench, signerName: kubernetes.io/kube-apiserver-client, approve: true}}
defaults: {issuer: clients, profile: client, duration: 24h}
certificates:
`, c.Kubeconfig("admin"))
	for i := range requested {
		text += fmt.Sprintf("  user-%d: {commonName: user-%d, files: {certificate: user-%d.crt, privateKey: user-%d.key}}\n", i, i, i, i)
	}
	fresh := func() error {
		if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(floorDir), os.MkdirAll(floorDir, 0o755)); err != nil {
			return err
		}
		return writeFile(spec, []byte(text))
	}
	apply, floor, err := inTurns(5, fresh,
		[]string{b.certsync, "-f", spec, "apply", "--yes", "--wait"},
		[]string{b.floor, "requests", c.Kubeconfig("admin"), floorDir, fmt.Sprint(requested)})
	if err != nil {
		return err
	}
	fmt.Printf("\n%d certificates of a Kubernetes cluster\n", requested)
	b.atMost("apply", apply, "plain loop of the same calls", floor, requestsBudget)
	return b.benchSecrets(c.Kubeconfig("admin"))
}

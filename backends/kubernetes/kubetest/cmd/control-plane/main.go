// Command control-plane starts a Kubernetes control plane on certificates of
// certsync's and keeps it until it is interrupted. With -build it only makes sure
// that the programs are there.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/certsync/certsync/backends/kubernetes/kubetest"
)

func main() {
	build := flag.Bool("build", false, "build the programs, and start nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *build)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, build bool) (err error) {
	programs, err := kubetest.Build(ctx, os.Stderr)
	if err != nil || build {
		return err
	}
	fmt.Fprintln(os.Stderr, "starting etcd, kube-apiserver and kube-controller-manager")
	c, err := kubetest.Run(ctx, programs)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(os.Stderr, "\nstopping")
		if stopErr := c.Stop(); err == nil {
			err = stopErr
		}
	}()
	fmt.Fprintf(os.Stderr, "ready at %s; the spec, the certificates and the logs are in %s\n", c.URL, c.Dir)
	fmt.Fprintf(os.Stderr, "Ctrl-C stops it. In another terminal:\n\n")
	fmt.Fprintf(os.Stdout, "export KUBECONFIG=%s\n", c.Kubeconfig("admin"))
	return c.Wait(ctx)
}

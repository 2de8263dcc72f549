package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/backends/kubernetes"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// clusters opens each cluster of a spec once, and only when it is needed.
type clusters struct {
	mu   sync.Mutex
	open map[spec.Cluster]openCluster // the zero one is the default
}

type openCluster struct {
	cluster *kubernetes.Cluster
	err     error
}

func (c *clusters) get(sc *spec.Cluster) (*kubernetes.Cluster, error) {
	// A record may know a cluster that the spec has by another name, or no more.
	key := spec.Cluster{}
	if sc != nil {
		key = spec.Cluster{Name: sc.Name, Kubeconfig: sc.Kubeconfig, Context: sc.Context}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.open[key]
	if !ok {
		known.cluster, known.err = kubernetes.Open(sc)
		if c.open == nil {
			c.open = make(map[spec.Cluster]openCluster)
		}
		c.open[key] = known
	}
	return known.cluster, known.err
}

// openRemote returns what asks the signer of a kubernetes issuer.
func (c *clusters) openRemote(_ context.Context, i *spec.Issuer) (reconcile.Remote, error) {
	cluster, err := c.get(i.Kubernetes.Cluster)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewIssuer(cluster, i.Kubernetes), nil
}

// ca returns the CAs of the cluster's own servers.
func (c *clusters) ca(_ context.Context, i *spec.Issuer) ([]*x509.Certificate, error) {
	cluster, err := c.get(i.Kubernetes.Cluster)
	if err != nil {
		return nil, err
	}
	return cluster.CA()
}

// anchors returns the CAs of a kubernetes issuer: those in the file that the spec
// names, or else the cluster's own.
func (c *clusters) anchors(ctx context.Context, store *files.Store, i *spec.Issuer) ([]*x509.Certificate, error) {
	path := i.Kubernetes.CA
	if path == "" {
		return c.ca(ctx, i)
	}
	seen, err := store.Read(ctx, spec.Output{Path: path})
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if !seen.Exists {
		return nil, fmt.Errorf("ca: read %s: no such file", path)
	}
	certs, err := pki.ParseCertificates(seen.Data)
	if err != nil {
		return nil, fmt.Errorf("ca: read %s: %w", path, err)
	}
	return certs, nil
}

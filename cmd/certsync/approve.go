package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/backends/kubernetes"
	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

func (a *app) approveCommand() *cobra.Command {
	return a.decideCommand(&cobra.Command{
		Use:   "approve NAME…",
		Short: "Approve pending certificate signing requests of Kubernetes",
		Long: `Approve the pending requests of certificates of the spec, or certificate signing
requests by their own names, as kubectl certificate approve does. The signer then
signs, and the next apply fetches the certificate.`,
	}, kubernetes.Decision{Approve: true, Reason: "CertsyncApprove", Message: "approved with certsync approve"}, "approved")
}

func (a *app) denyCommand() *cobra.Command {
	return a.decideCommand(&cobra.Command{
		Use:   "deny NAME…",
		Short: "Deny pending certificate signing requests of Kubernetes",
		Long: `Deny the pending requests of certificates of the spec, or certificate signing
requests by their own names, as kubectl certificate deny does. A request that was
denied is not made again until the spec changes, or apply --replace asks for it.`,
	}, kubernetes.Decision{Reason: "CertsyncDeny", Message: "denied with certsync deny"}, "denied")
}

func (a *app) decideCommand(cmd *cobra.Command, d kubernetes.Decision, done string) *cobra.Command {
	var reason string
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if len(names) == 0 {
			return withHint(fmt.Errorf("%s needs names", cmd.Name()), "certsync status shows what waits for approval")
		}
		if reason != "" {
			d.Message = reason
		}
		return a.decide(cmd.Context(), names, d, done)
	}
	cmd.Flags().StringVar(&reason, "reason", "", "say why, in the request's status: `TEXT`")
	return cmd
}

// decision is a request that is to be approved or denied.
type decision struct {
	cluster   *spec.Cluster
	name, uid string
	of        string // the certificate that it is for, as messages call it; may be empty
}

func (a *app) decide(ctx context.Context, names []string, d kubernetes.Decision, done string) error {
	sp, _, state, err := a.look(ctx)
	if err != nil {
		return err
	}
	p, err := reconcile.Diff(sp, state, reconcile.Options{}, a.now())
	if err != nil {
		return err
	}
	failed := false
	fail := func(err error) {
		failed = true
		view.Error(a.stderr, err)
	}
	var list []decision
	for _, name := range names {
		found, err := a.requestsOf(ctx, sp, p, name)
		if err != nil {
			fail(err)
		}
		for _, f := range found {
			if !slices.ContainsFunc(list, func(d decision) bool { return d.name == f.name && d.cluster == f.cluster }) {
				list = append(list, f)
			}
		}
	}
	for _, f := range list {
		cluster, err := a.clusters.get(f.cluster)
		if err == nil {
			err = cluster.Decide(ctx, f.name, f.uid, d)
		}
		if err != nil {
			fail(fmt.Errorf("request %s%s: %w", f.name, f.of, err))
			continue
		}
		fmt.Fprintf(a.stdout, "%s%s: %s\n", f.name, f.of, done)
	}
	if failed {
		return errReported
	}
	return nil
}

// requestsOf returns the requests that a name means: those of the certificates that
// it matches, of which a glob means those that nobody has decided about, else the
// object of that name, in any of the spec's clusters.
func (a *app) requestsOf(ctx context.Context, sp *spec.Spec, p *reconcile.Plan, name string) ([]decision, error) {
	if _, err := path.Match(name, ""); err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	var list []decision
	var unknown []error
	known, glob := "", strings.ContainsAny(name, `*?[\`)
	for i := range p.Items {
		it := &p.Items[i]
		id := it.ID()
		byName, _ := path.Match(name, it.Name) // the pattern was checked
		byPath, _ := path.Match(name, id.String())
		asked := it.Request != nil && it.Request.Name == name
		if !byName && !byPath && !asked {
			continue
		}
		known = id.Title()
		issuer := sp.Issuer(it.Issuer)
		if it.Request == nil || issuer == nil || !issuer.Remote() {
			continue
		}
		switch state := it.Request.State; {
		case state == "": // what became of it is not known, nor whether what has its name is ours
			why := it.Error
			if why == "" { // something is repaired meanwhile
				why = strings.Join(it.Warnings, "; ")
			}
			unknown = append(unknown, withHint(fmt.Errorf("%s: %s", id.Title(), why), it.Hint))
			continue
		case state == reconcile.RequestAbsent, glob && state != reconcile.RequestPending:
			continue
		}
		list = append(list, decision{issuer.Kubernetes.Cluster, it.Request.Name, it.Request.UID, " of " + id.Title()})
	}
	switch {
	case len(list) > 0 || len(unknown) > 0:
		return list, errors.Join(unknown...)
	case glob && known != "":
		return nil, fmt.Errorf("nothing named %q waits for approval", name)
	case known != "":
		return nil, fmt.Errorf("%s has no pending request", known)
	}
	return a.objectNamed(ctx, sp, name)
}

// objectNamed looks for a certificate signing request by its own name.
func (a *app) objectNamed(ctx context.Context, sp *spec.Spec, name string) ([]decision, error) {
	var list []decision
	var errs []error
	seen := map[*spec.Cluster]bool{}
	for _, i := range sp.Issuers {
		if !i.Remote() || seen[i.Kubernetes.Cluster] {
			continue
		}
		seen[i.Kubernetes.Cluster] = true
		cluster, err := a.clusters.get(i.Kubernetes.Cluster)
		has := false
		if err == nil {
			has, err = cluster.Has(ctx, name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("look for the request %s: %w", name, err))
		}
		if has {
			list = append(list, decision{cluster: i.Kubernetes.Cluster, name: name})
		}
	}
	switch {
	case len(errs) > 0:
		return nil, errors.Join(errs...)
	case len(list) == 0:
		return nil, withHint(fmt.Errorf("no certificate and no certificate signing request is named %q", name), "certsync status shows what waits for approval")
	case len(list) > 1:
		return nil, fmt.Errorf("several clusters have a certificate signing request %s", name)
	}
	return list, nil
}

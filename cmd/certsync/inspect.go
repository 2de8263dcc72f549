package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

func (a *app) inspectCommand() *cobra.Command {
	var (
		r        endpointRun
		format   string
		password spec.SecretRef
	)
	cmd := &cobra.Command{
		Use:   "inspect FILE|HOST:PORT…",
		Short: "Show what is in certificate, request, key, CRL, keystore and kubeconfig files, or what a server serves",
		Long: `Show what is in files, in PEM or DER: certificates, certificate requests, keys and
CRLs, keystores in PKCS#12 and JKS, and kubeconfigs; - is standard input. Of a
private key the type is shown, and which of the certificates and requests given it
belongs to, never the key, and never another secret of a kubeconfig. What is
encrypted is looked into with --password-file or --password-env.

Of HOST:PORT, unless there is a file of that name, show what is agreed in a TLS
handshake, the certificates that are served, whether they are trusted and for that
name, and what the server asks of clients. Trusted is what leads to --trust ROOT, or
else to a root of the spec, if there is a spec, or of the system. With --as NAME a
certificate of the spec is shown to the server, to see whether it is accepted.
With --handshake every message is told, in order, and who ended it and why.`,
		Example: "  certsync inspect web.crt web.key\n  certsync inspect www.example.com:443\n  certsync inspect --handshake --as jane localhost:8443",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return withHint(errors.New("inspect needs a file or HOST:PORT"), "- is standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			if err := r.check(cmd, args); err != nil {
				return err
			}
			return a.inspect(cmd.Context(), args, password, &r, format == "json")
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "output", "o", "text", "text or json")
	flags.StringVar(&password.File, "password-file", "", "read the password of encrypted keys and keystores from `FILE`")
	flags.StringVar(&password.Env, "password-env", "", "take the password of encrypted keys and keystores from the environment variable `NAME`")
	cmd.MarkFlagsMutuallyExclusive("password-file", "password-env")
	r.flags(cmd)
	return cmd
}

// inspect shows what it can, whatever is wrong with other files and endpoints.
func (a *app) inspect(ctx context.Context, args []string, ref spec.SecretRef, r *endpointRun, json bool) error {
	var password func() ([]byte, error)
	if ref != (spec.SecretRef{}) {
		password = func() ([]byte, error) { return files.Secret(&ref) }
	}
	var found []view.InspectedFile
	var endpoints []view.InspectedEndpoint
	var errs []error
	failed := false
	for _, arg := range args {
		if isEndpoint(arg) {
			e, ok, err := a.inspectEndpoint(ctx, arg, r)
			var fault *endpointError
			if err != nil && !errors.As(err, &fault) {
				return err // about the command line or the spec
			}
			if err != nil {
				e.Error = err.Error()
				errs = append(errs, err)
			}
			failed = failed || !ok
			endpoints = append(endpoints, e)
			continue
		}
		f := view.InspectedFile{File: arg}
		items, err := a.inspectFile(arg, password)
		if err != nil {
			f.Error = err.Error()
			errs = append(errs, err)
		}
		for _, it := range items {
			f.Items = append(f.Items, view.InspectedItem{Item: it})
		}
		found = append(found, f)
	}
	report := view.Inspection(found, endpoints)
	show := view.InspectionText
	if json {
		show = func(w io.Writer, r view.InspectionReport) error { return view.JSON(w, r) }
	} else {
		report.Time = a.now()
	}
	if err := show(a.stdout, report); err != nil {
		return err
	}
	for _, err := range errs { // one by one, each with its hint
		view.Error(a.stderr, err)
	}
	if failed || len(errs) > 0 {
		return errReported
	}
	return nil
}

func (a *app) inspectFile(path string, password func() ([]byte, error)) ([]pki.Item, error) {
	data, err := a.readInput(path)
	if err != nil {
		return nil, err
	}
	items, err := pki.Inspect(data, password)
	switch {
	case err == nil:
		return items, nil
	case errors.Is(err, pki.ErrPassword) && password == nil:
		return nil, withHint(fmt.Errorf("inspect %s: %w", path, err), "give the password with --password-file or --password-env")
	}
	return nil, fmt.Errorf("inspect %s: %w", path, err)
}

// maxInput is how large a file on the command line may be: CRLs reach megabytes.
const maxInput = 64 << 20

// readInput reads a file that was named on the command line; - is standard input.
func (a *app) readInput(path string) ([]byte, error) {
	in := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if hint := endpointHint(path); errors.Is(err, fs.ErrNotExist) && hint != "" {
			return nil, withHint(readError(path, err), hint)
		}
		if err != nil {
			return nil, readError(path, err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = errors.New("it is larger than 64 MiB")
	}
	if err != nil {
		return nil, readError(path, err)
	}
	return data, nil
}

// readError names the file once.
func readError(path string, err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err
	}
	return fmt.Errorf("read %s: %w", path, err)
}

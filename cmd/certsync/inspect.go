package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

func (a *app) inspectCommand() *cobra.Command {
	var (
		format   string
		password spec.SecretRef
	)
	cmd := &cobra.Command{
		Use:   "inspect FILE…",
		Short: "Show what is in certificate, request, key, CRL, keystore and kubeconfig files",
		Long: `Show what is in files, in PEM or DER: certificates, certificate requests, keys and
CRLs, keystores in PKCS#12 and JKS, and kubeconfigs; - is standard input. Of a
private key the type is shown, and which of the certificates and requests given it
belongs to, never the key, and never another secret of a kubeconfig. What is
encrypted is looked into with --password-file or --password-env.`,
		Example: "  certsync inspect web.crt web.key\n  openssl s_client -connect www.example.com:443 </dev/null | certsync inspect -",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return withHint(errors.New("inspect needs a file"), "- is standard input")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, paths []string) error {
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			return a.inspect(paths, password, format == "json")
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "output", "o", "text", "text or json")
	flags.StringVar(&password.File, "password-file", "", "read the password of encrypted keys and keystores from `FILE`")
	flags.StringVar(&password.Env, "password-env", "", "take the password of encrypted keys and keystores from the environment variable `NAME`")
	cmd.MarkFlagsMutuallyExclusive("password-file", "password-env")
	return cmd
}

// inspect shows what it can, whatever is wrong with other files.
func (a *app) inspect(paths []string, ref spec.SecretRef, json bool) error {
	var password func() ([]byte, error)
	if ref != (spec.SecretRef{}) {
		password = func() ([]byte, error) { return files.Secret(&ref) }
	}
	var found []view.InspectedFile
	var errs []error
	for _, path := range paths {
		f := view.InspectedFile{File: path}
		items, err := a.inspectFile(path, password)
		if err != nil {
			f.Error = err.Error()
			errs = append(errs, err)
		}
		for _, it := range items {
			f.Items = append(f.Items, view.InspectedItem{Item: it})
		}
		found = append(found, f)
	}
	report := view.Inspection(found)
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
	if len(errs) > 0 {
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
		if errors.Is(err, fs.ErrNotExist) && isEndpoint(path) {
			return nil, withHint(fmt.Errorf("%s: there is no such file, and looking at a live endpoint is not supported by this version", path),
				fmt.Sprintf("openssl s_client -showcerts -connect %s </dev/null | certsync inspect -", path))
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

// isEndpoint tells whether an argument looks like HOST:PORT.
func isEndpoint(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

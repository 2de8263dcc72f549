package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/idna"

	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile/pki"
)

// verifyRun is what verify was asked for about files.
type verifyRun struct {
	trust, untrusted, crls []string
	purpose, name, at      string
	json                   bool
}

func (a *app) verifyCommand() *cobra.Command {
	var (
		r       verifyRun
		format  string
		connect bool
	)
	cmd := &cobra.Command{
		Use:   "verify [NAME…] | verify --trust ROOT… CERT",
		Short: "Verify the spec's certificates, or a certificate file",
		Long: `Verify the certificates of the spec, as they are on disk: that they chain up to the
spec's root, are valid for each of their names and usages now, match their keys,
and that all outputs agree.

With --trust verify one certificate file instead, by RFC 5280: ROOT, INT, CRL and
CERT are files in PEM or DER, and may hold several. What follows the certificate in
CERT may serve as intermediates. With --crl, every certificate of the chain but the
root must be covered by a CRL.`,
		Example: `  certsync verify
  certsync verify --trust ca.crt --untrusted services-ca.crt --purpose server --name www.example.com web.crt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			if connect {
				return errors.New("--connect is not supported by this version")
			}
			r.json = format == "json"
			if len(r.trust) > 0 {
				return a.verifyFile(r, args)
			}
			for _, flag := range []string{"trust", "untrusted", "crl", "purpose", "name", "at"} {
				if cmd.Flags().Changed(flag) {
					return withHint(fmt.Errorf("--%s is for a certificate file, which needs a root to trust", flag), "give it with --trust ROOT")
				}
			}
			return a.verifySpec(cmd.Context(), args, r.json)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&r.trust, "trust", nil, "trust the certificates in the file `ROOT`; may be given several times")
	flags.StringArrayVar(&r.untrusted, "untrusted", nil, "use the certificates in the file `INT` as intermediates; may be given several times")
	flags.StringArrayVar(&r.crls, "crl", nil, "check revocation with the file `CRL`; may be given several times")
	flags.StringVar(&r.purpose, "purpose", pki.PurposeAny, "what the certificate is to be good for: server, client or any")
	flags.StringVar(&r.name, "name", "", "the `HOST` that the certificate is to be for, a DNS name or an IP address")
	flags.StringVar(&r.at, "at", "", "verify for the `TIME`, as 2006-01-02T15:04:05Z, instead of now")
	flags.BoolVar(&connect, "connect", false, "not supported by this version")
	flags.StringVarP(&format, "output", "o", "text", "text or json")
	return cmd
}

func (a *app) verifyFile(r verifyRun, args []string) error {
	if len(args) != 1 {
		return withHint(fmt.Errorf("verify --trust takes one certificate file, but got %d", len(args)), "certsync verify --trust ROOT CERT")
	}
	cert, o, err := a.verifyInputs(r, args[0])
	if err != nil {
		return err
	}
	chains, err := pki.Verify(cert, o)
	if r.json {
		if err := view.JSON(a.stdout, view.FileVerification(args[0], o, chains, err)); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("verify %s: %w", args[0], err)
	case r.json:
		return nil
	}
	return view.Chain(a.stdout, args[0], chains[0])
}

// verifyInputs reads what the command line names.
func (a *app) verifyInputs(r verifyRun, path string) (cert *x509.Certificate, o pki.VerifyOptions, err error) {
	o.Purpose, o.At = r.purpose, a.now()
	switch r.purpose {
	case pki.PurposeServer, pki.PurposeClient, pki.PurposeAny:
	default:
		return nil, o, fmt.Errorf("--purpose %s: use server, client or any", r.purpose)
	}
	if r.at != "" {
		if o.At, err = time.Parse(time.RFC3339, r.at); err != nil {
			return nil, o, fmt.Errorf("--at %s: want a time such as 2006-01-02T15:04:05Z", r.at)
		}
	}
	if o.Name, err = hostName(r.name); err != nil {
		return nil, o, fmt.Errorf("--name %s: %w", r.name, err)
	}
	if o.Trust, err = readAll(a, r.trust, pki.ParseAnyCertificates); err != nil {
		return nil, o, err
	}
	if o.Untrusted, err = readAll(a, r.untrusted, pki.ParseAnyCertificates); err != nil {
		return nil, o, err
	}
	if o.CRLs, err = readAll(a, r.crls, pki.ParseCRLs); err != nil {
		return nil, o, err
	}
	certs, err := readAll(a, []string{path}, pki.ParseAnyCertificates)
	if err != nil {
		return nil, o, err
	}
	o.Untrusted = append(o.Untrusted, certs[1:]...)
	return certs[0], o, nil
}

// readAll reads files that each hold at least one thing.
func readAll[T any](a *app, paths []string, parse func([]byte) ([]T, error)) ([]T, error) {
	var all []T
	for _, path := range paths {
		data, err := a.readInput(path)
		if err != nil {
			return nil, err
		}
		found, err := parse(data)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// hostName turns an internationalized name into the A-labels that certificates
// have (RFC 5891).
func hostName(name string) (string, error) {
	for _, r := range name {
		if r >= 0x80 {
			return idna.Lookup.ToASCII(name)
		}
	}
	return name, nil
}

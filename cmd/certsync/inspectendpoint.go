package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/cmd/certsync/internal/handshake"
	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile/pki"
)

// endpointRun is what inspect was asked for about endpoints.
type endpointRun struct {
	as, serverName, startTLS, version string
	trust, alpn                       []string
	timeout                           time.Duration
	handshake                         bool

	// known is the same for all endpoints of a run; nil as long as it is not there.
	known *known
}

// endpointFlags are those that say nothing about files.
var endpointFlags = []string{"handshake", "as", "trust", "server-name", "starttls", "alpn", "tls-version", "timeout"}

func (r *endpointRun) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&r.handshake, "handshake", false, "tell the handshake with HOST:PORT, message by message")
	flags.StringVar(&r.as, "as", "", "show HOST:PORT the certificate `NAME` of the spec, if it asks for one")
	flags.StringArrayVar(&r.trust, "trust", nil, "trust the certificates in the file `ROOT` alone; may be given several times")
	flags.StringVar(&r.serverName, "server-name", "", "ask for the server `NAME` instead of HOST")
	flags.StringVar(&r.startTLS, "starttls", "", "begin in the `PROTOCOL` and go over to TLS: "+strings.Join(handshake.StartTLSProtocols, ", "))
	flags.StringSliceVar(&r.alpn, "alpn", []string{"h2", "http/1.1"}, "offer the `PROTOCOLS`; without a default with --starttls")
	flags.StringVar(&r.version, "tls-version", "", "offer one `VERSION` of TLS alone, 1.2 or 1.3")
	flags.DurationVar(&r.timeout, "timeout", 10*time.Second, "give up on a handshake after this time")
}

// check finds what is wrong before anything is done.
func (r *endpointRun) check(cmd *cobra.Command, args []string) error {
	if !slices.ContainsFunc(args, isEndpoint) {
		for _, flag := range endpointFlags {
			if cmd.Flags().Changed(flag) {
				err := fmt.Errorf("--%s is for a live endpoint, and none is given", flag)
				for _, arg := range args {
					if hint := endpointHint(arg); hint != "" {
						return withHint(err, hint)
					}
				}
				return withHint(err, "an endpoint is HOST:PORT, such as www.example.com:443")
			}
		}
		return nil
	}
	if r.startTLS != "" {
		if !slices.Contains(handshake.StartTLSProtocols, r.startTLS) {
			return fmt.Errorf("--starttls %s: use %s", r.startTLS, strings.Join(handshake.StartTLSProtocols, ", "))
		}
		if !cmd.Flags().Changed("alpn") {
			r.alpn = nil
		}
	}
	for _, p := range r.alpn {
		if p == "" || len(p) > 255 {
			return fmt.Errorf("--alpn: a protocol has 1 to 255 bytes")
		}
	}
	switch {
	case r.version != "" && r.version != "1.2" && r.version != "1.3":
		return fmt.Errorf("--tls-version %s: use 1.2 or 1.3", r.version)
	case r.timeout <= 0:
		return fmt.Errorf("--timeout %s: want more than nothing", r.timeout)
	}
	name, err := hostName(r.serverName)
	if err != nil {
		return fmt.Errorf("--server-name %s: %w", r.serverName, err)
	}
	r.serverName = name
	return nil
}

// isEndpoint tells an endpoint from a file: it is HOST:PORT, and no file has that
// name.
func isEndpoint(arg string) bool {
	if _, err := os.Lstat(arg); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	host, port, err := net.SplitHostPort(arg)
	if err != nil || host == "" || strings.ContainsAny(host, "/\\") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// fileExtensions are those of files that inspect reads, and of no host.
var fileExtensions = []string{".cer", ".conf", ".crl", ".crt", ".csr", ".der", ".jks", ".key", ".kubeconfig", ".p12", ".pem", ".pfx", ".pub"}

// endpointHint says how to write what looks like an endpoint; empty if it does not.
func endpointHint(arg string) string {
	host, port := arg, ""
	switch u, err := url.Parse(arg); {
	case err == nil && u.Scheme != "" && u.Host != "":
		host, port = u.Hostname(), u.Port()
		if port == "" && u.Scheme == "https" {
			port = "443"
		}
	case strings.ContainsAny(arg, "/\\"):
		return ""
	default:
		if _, err := netip.ParseAddr(strings.Trim(arg, "[]")); err == nil {
			host = strings.Trim(arg, "[]")
			break
		}
		if h, p, err := net.SplitHostPort(arg); err == nil && h != "" {
			host = h // of a service by its name, or of a port that is none
			if n, err := net.LookupPort("tcp", p); err == nil && n > 0 {
				port = strconv.Itoa(n)
			}
		} else if !strings.Contains(arg, ".") || slices.Contains(fileExtensions, filepath.Ext(arg)) {
			return ""
		}
	}
	if port == "" {
		port = "443"
	}
	return fmt.Sprintf("a live endpoint is HOST:PORT, such as %s", net.JoinHostPort(host, port))
}

// endpointError is one of an endpoint, which does not keep others from being
// inspected.
type endpointError struct{ error }

func (e *endpointError) Unwrap() error { return e.error }

// inspectEndpoint reports on one endpoint. ok tells that it is as it was hoped to
// be: that could be inspected, and that it accepts what it was shown. An
// endpointError tells that there was nothing to inspect.
func (a *app) inspectEndpoint(ctx context.Context, endpoint string, r *endpointRun) (e view.InspectedEndpoint, ok bool, err error) {
	e.Endpoint, e.StartTLS = endpoint, r.startTLS
	e.Chain = view.EndpointChain(nil)
	if r.known == nil {
		if r.known, err = a.knownFor(ctx, r); err != nil {
			return e, false, err
		}
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return e, false, err
	}
	fail := func(err error) (view.InspectedEndpoint, bool, error) {
		return e, false, &endpointError{err}
	}
	if host, err = hostName(host); err != nil {
		return fail(fmt.Errorf("inspect %s: %w", endpoint, err))
	}
	name := host
	if r.serverName != "" {
		name = r.serverName
	}
	name, _, _ = strings.Cut(name, "%")  // the zone of an IPv6 address
	name = strings.TrimSuffix(name, ".") // which is for name servers (RFC 6066, section 3)
	o := handshake.Options{
		Address: net.JoinHostPort(host, port), ServerName: name, Protocols: r.alpn,
		StartTLS: r.startTLS, Timeout: r.timeout, Grace: time.Second,
	}
	if _, err := netip.ParseAddr(name); err != nil {
		e.ServerName = name
	}
	switch r.version {
	case "1.2":
		o.MaxVersion = tls.VersionTLS12
	case "1.3":
		o.MinVersion = tls.VersionTLS13
	}
	id := r.known.identity
	if id != nil {
		o.Certificate = id.Certificate()
	}
	ob, err := handshake.Observe(ctx, o)
	if err != nil {
		return fail(withHint(fmt.Errorf("inspect %s: %w", endpoint, err), connectHint(err)))
	}
	circumstances := handshake.Circumstances{As: r.as, Offered: r.alpn, StartTLS: r.startTLS}
	if ob.IsAboutTheOffer() {
		weak := o
		weak.Weak = true
		circumstances.Weak, _ = handshake.Observe(ctx, weak) // nil is what says that it is not known
	}
	if id != nil && ob.Request != nil {
		circumstances.Objections = id.Objections(ob.Request, a.now())
	}
	if ob.Outcome == handshake.Accepted && ob.Shown > 0 {
		bare := o
		bare.Certificate = nil
		circumstances.Without, _ = handshake.Observe(ctx, bare) // as above
	}
	verdict := ob.Explain(circumstances)
	if ob.Version == "" && !r.handshake {
		e.Outcome = ob.Outcome
		return fail(withHint(fmt.Errorf("inspect %s: %s", endpoint, verdict.Text), verdict.Hint))
	}
	fill(&e, ob)
	if len(ob.Chain) > 0 {
		e.Trust = r.known.judge(ob.Chain, name, a.now())
	}
	if ob.Asked {
		e.ClientCertificates = &view.ClientCertificates{Requested: ob.Request != nil, Request: ob.Request,
			Name: r.as, Shown: ob.Shown > 0, Objections: circumstances.Objections}
	}
	if t := e.Trust; t != nil && !(t.OK && t.NameOK) && ob.Outcome == handshake.Accepted {
		verdict.Text += "; but a client that checks the server's certificate would not go on"
	}
	e.Verdict = &verdict
	if r.handshake {
		e.Handshake = ob.Steps
	}
	return e, endpointOK(ob, r), nil
}

// fill takes over what needs no judgement.
func fill(e *view.InspectedEndpoint, ob *handshake.Observation) {
	e.Address, e.Outcome = ob.Remote, ob.Outcome
	e.Protocol, e.CipherSuite, e.KeyExchange, e.ALPN = ob.Version, ob.CipherSuite, ob.Group, ob.ALPN
	e.Ticket, e.OCSPStapled, e.SCTs = ob.Ticket, ob.Stapled, ob.SCTs
	infos := make([]*pki.CertificateInfo, 0, len(ob.Chain))
	for _, c := range ob.Chain {
		infos = append(infos, pki.NewCertificateInfo(c))
	}
	e.Chain = view.EndpointChain(infos)
}

// endpointOK tells whether the exit code is 0. Who only looks at an endpoint has
// seen what there is to see, even if it wants a client certificate.
func endpointOK(ob *handshake.Observation, r *endpointRun) bool {
	switch ob.Outcome {
	case handshake.Accepted:
		return true
	case handshake.Unclear:
		return r.as == ""
	case handshake.Refused:
		return r.as == "" && !r.handshake && ob.Request != nil && ob.Chain != nil
	}
	return false
}

// connectHint helps with what went wrong before TLS.
func connectHint(err error) string {
	var dns *net.DNSError
	switch {
	case strings.HasPrefix(err.Error(), "start TLS in "):
		if strings.Contains(err.Error(), "in time") || strings.Contains(err.Error(), "closed") {
			return "is that the protocol of the port? TLS from the start needs no --starttls"
		}
	case strings.Contains(err.Error(), "connection refused"):
		return "no program listens on that port, or a firewall refuses"
	case errors.As(err, &dns), strings.Contains(err.Error(), "look up"):
		return "give an IP address, and the name with --server-name"
	case strings.Contains(err.Error(), "in time"):
		return "a firewall may drop what is sent there; --timeout gives it more time"
	}
	return ""
}

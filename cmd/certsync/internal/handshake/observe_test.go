package handshake

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// peer starts a server that requires client certificates of a root.
type peer struct {
	name  string
	start func(t testing.TB, w *world, version string) string
}

var peers = []peer{
	{"crypto/tls", func(t testing.TB, w *world, version string) string {
		c := &tls.Config{Certificates: []tls.Certificate{w.server.tls()}, ClientCAs: pool(w.root.cert), ClientAuth: tls.RequireAndVerifyClientCert}
		if version == "TLS 1.2" {
			c.MaxVersion = tls.VersionTLS12
		}
		return goServer(t, c)
	}},
	{"openssl", func(t testing.TB, w *world, version string) string {
		root, _ := w.root.files(t)
		args := []string{"-CAfile", root, "-Verify", "3", "-verify_return_error", "-tls1_3"}
		if version == "TLS 1.2" {
			args[len(args)-1] = "-tls1_2"
		}
		return opensslServer(t, w.server, args...)
	}},
	{"gnutls", func(t testing.TB, w *world, version string) string {
		root, _ := w.root.files(t)
		priority := "NORMAL:-VERS-ALL:+VERS-TLS1.3"
		if version == "TLS 1.2" {
			priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2"
		}
		return gnutlsServer(t, w.server, "--x509cafile", root, "--require-client-cert", "--verify-client-cert", "--priority", priority)
	}},
}

// lenient marks a server that does not look at usages.
const lenient = "lenient"

// TestMutualTLS shows every kind of certificate to every kind of server: what is
// accepted and refused is the server's own doing, and the alert is its own.
func TestMutualTLS(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		client  string
		outcome Outcome
		// The alerts of crypto/tls, openssl and gnutls; several where versions differ.
		alerts    [3]string
		objection string
	}{
		{client: "ecdsa", outcome: Accepted},
		{client: "rsa", outcome: Accepted},
		{client: "ed25519", outcome: Accepted},
		{client: "full", outcome: Accepted},
		{"", Refused, [3]string{"certificate_required handshake_failure bad_certificate", "certificate_required handshake_failure", "certificate_required decode_error"}, ""},
		{"stranger", Refused, [3]string{"unknown_ca bad_certificate", "unknown_ca", "access_denied bad_certificate"}, "not among the CAs that the server asks for"},
		{"twin", Refused, [3]string{"unknown_ca bad_certificate", "decrypt_error unknown_ca bad_certificate", "access_denied bad_certificate"}, ""},
		{"expired", Refused, [3]string{"certificate_expired bad_certificate", "certificate_expired", "access_denied bad_certificate"}, "the certificate expired on"},
		{"usage", Refused, [3]string{"bad_certificate", "unsupported_certificate", lenient}, "lacks the usage client auth"},
		{"short", Refused, [3]string{"unknown_ca bad_certificate", "unknown_ca", "access_denied bad_certificate"}, "not among the CAs"},
		{"wrong key", Refused, [3]string{"decrypt_error", "decrypt_error", "decrypt_error bad_certificate illegal_parameter"}, "not that of the certificate"},
	}
	for i, p := range peers {
		for _, version := range []string{"TLS 1.3", "TLS 1.2"} {
			t.Run(p.name+" "+version, func(t *testing.T) {
				addr := p.start(t, w, version)
				for _, test := range tests {
					t.Run(test.client, func(t *testing.T) {
						o := Options{Address: addr}
						c := Circumstances{As: test.client}
						var id *Identity
						if test.client != "" {
							id = w.clients[test.client].identity(t)
							o.Certificate = id.Certificate()
						}
						ob := observe(t, o)
						if id != nil {
							c.Objections = id.Objections(ob.Request, time.Now())
						}
						verdict := ob.Explain(c)
						outcome := test.outcome
						if test.alerts[i] == lenient {
							outcome = Accepted
						}
						if ob.Outcome != outcome {
							t.Fatalf("%s, want %s: %+v\n%s", ob.Outcome, outcome, verdict, messages(ob.Steps))
						}
						switch {
						case test.alerts[i] == lenient && !strings.Contains(verdict.Text, "in spite of what is wrong with it"),
							outcome == Refused && id != nil && !strings.HasPrefix(verdict.Text, `the server refused the certificate "`+test.client+`": the server `),
							outcome == Refused && id == nil && !strings.HasPrefix(verdict.Text, "the server requires a client certificate: "),
							outcome == Refused && verdict.Hint == "":
							t.Errorf("verdict %+v", verdict)
						}
						if ob.Version != version {
							t.Errorf("version %s", ob.Version)
						}
						alert := ""
						if ob.Alert != nil {
							alert = ob.Alert.Name
						}
						if outcome == Refused && !strings.Contains(" "+test.alerts[i]+" ", " "+alert+" ") {
							t.Errorf("alert %q, want one of %q\n%s", alert, test.alerts[i], messages(ob.Steps))
						}
						if ob.Alert != nil && ob.From != Server {
							t.Errorf("the alert came from the %s", ob.From)
						}
						if have := texts(c.Objections); !strings.Contains(have, test.objection) || have != "" && test.objection == "" {
							t.Errorf("objections %q, want %q", have, test.objection)
						}
						if diff := cmp.Diff([]string{"CN=root"}, ob.Request.CAs); diff != "" {
							t.Errorf("the CAs asked for (-want +have):\n%s", diff)
						}
						if len(ob.Chain) == 0 || !ob.Chain[0].Equal(w.server.cert) {
							t.Errorf("served %d certificates, or another one", len(ob.Chain))
						}
						if strings.Contains(messages(ob.Steps), "unread ") {
							t.Errorf("not all could be decrypted:\n%s", messages(ob.Steps))
						}
					})
				}
			})
		}
	}
}

// TestSteps: the messages are those of RFC 8446, section 2, and RFC 5246, section
// 7.3, in that order.
func TestSteps(t *testing.T) {
	w := newWorld(t)
	serve := func(c *tls.Config) func(t testing.TB) string {
		c.Certificates = []tls.Certificate{w.server.tls()}
		c.NextProtos = []string{"http/1.1"}
		return func(t testing.TB) string { return goServer(t, c) }
	}
	tests := []struct {
		name  string
		start func(t testing.TB) string
		shown string
		want  string
	}{
		// Without a ticket, which may come before or after the client has finished.
		{"one-way TLS 1.3", serve(&tls.Config{SessionTicketsDisabled: true}), "", `c client hello
s server hello
s change cipher spec
s encrypted extensions*
s certificate* 1
s certificate verify*
s finished*
c change cipher spec
c finished*
c alert* close_notify
s alert* close_notify
`},
		{"mutual TLS 1.3", serve(&tls.Config{ClientAuth: tls.RequireAnyClientCert}), "ecdsa", `c client hello
s server hello
s change cipher spec
s encrypted extensions*
s certificate request*
s certificate* 1
s certificate verify*
s finished*
c change cipher spec
c certificate* 1
c certificate verify*
c finished*
s new session ticket*
c alert* close_notify
s alert* close_notify
`},
		{"one-way TLS 1.2", serve(&tls.Config{MaxVersion: tls.VersionTLS12}), "", `c client hello
s server hello
s certificate 1
s server key exchange
s server hello done
c client key exchange
c change cipher spec
c finished*
s new session ticket
s change cipher spec
s finished*
c alert* close_notify
s alert* close_notify
`},
		{"mutual TLS 1.2, refused", serve(&tls.Config{MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(w.root.cert)}), "", `c client hello
s server hello
s certificate 1
s server key exchange
s certificate request
s server hello done
c certificate 0
c client key exchange
c change cipher spec
c finished*
s alert handshake_failure
`},
		// Both may change the cipher spec at once.
		{"another group", serve(&tls.Config{SessionTicketsDisabled: true, CurvePreferences: []tls.CurveID{tls.CurveP384}}), "", `c client hello
s hello retry request
c client hello
s server hello
s encrypted extensions*
s certificate* 1
s certificate verify*
s finished*
c finished*
c alert* close_notify
s alert* close_notify
`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := Options{Address: test.start(t), Protocols: []string{"h2", "http/1.1"}}
			if test.shown != "" {
				o.Certificate = w.clients[test.shown].identity(t).Certificate()
			}
			ob := observe(t, o)
			have := messages(ob.Steps)
			if !strings.Contains(test.want, msgChangeCipherSpec) {
				have = strings.NewReplacer("c change cipher spec\n", "", "s change cipher spec\n", "").Replace(have)
			}
			if diff := cmp.Diff(test.want, have); diff != "" {
				t.Errorf("-want +have:\n%s", diff)
			}
			if ob.ALPN != "http/1.1" || ob.Group == "" || ob.CipherSuite == "" {
				t.Errorf("ALPN %q, group %q, cipher %q", ob.ALPN, ob.Group, ob.CipherSuite)
			}
		})
	}
}

// TestDecryptsEveryCipher: what crypto/tls can agree on can be decrypted, but for
// ciphers with CBC, of which that is said.
func TestDecryptsEveryCipher(t *testing.T) {
	w := newWorld(t)
	for _, cipher := range []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"} {
		t.Run(cipher, func(t *testing.T) {
			ob := observe(t, Options{Address: opensslServer(t, w.server, "-tls1_3", "-ciphersuites", cipher)})
			if ob.CipherSuite != cipher || ob.Outcome != Accepted || !strings.Contains(messages(ob.Steps), "s finished*") {
				t.Errorf("%s, %s:\n%s", ob.CipherSuite, ob.Outcome, messages(ob.Steps))
			}
		})
	}
	for _, suite := range tls.CipherSuites() {
		if !strings.Contains(suite.Name, "_ECDSA_") {
			continue
		}
		t.Run(suite.Name, func(t *testing.T) {
			ob := observe(t, Options{Address: goServer(t, &tls.Config{
				Certificates: []tls.Certificate{w.server.tls()}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})})
			want := "s finished*"
			if strings.Contains(suite.Name, "_CBC_") {
				want = "s unread handshake message*"
			}
			if ob.CipherSuite != suite.Name || ob.Outcome != Accepted || !strings.Contains(messages(ob.Steps), want) {
				t.Errorf("%s, %s:\n%s", ob.CipherSuite, ob.Outcome, messages(ob.Steps))
			}
		})
	}
}

func texts(list []Objection) string {
	var all []string
	for _, o := range list {
		all = append(all, o.Text)
	}
	return strings.Join(all, "; ")
}

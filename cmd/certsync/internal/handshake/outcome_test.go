package handshake

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestSigns: what a server does after the client is done tells whether it goes on,
// also one that says nothing.
func TestSigns(t *testing.T) {
	w := newWorld(t)
	serve := func(after func(raw net.Conn, s *tls.Conn)) string {
		return listen(t, func(conn net.Conn) {
			s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{w.server.tls()}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true})
			if s.Handshake() == nil {
				after(conn, s)
			}
		})
	}
	wait := func(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
	tests := []struct {
		name  string
		after func(raw net.Conn, s *tls.Conn)
		want  Outcome
	}{
		{"speaks first", func(_ net.Conn, s *tls.Conn) { _, _ = s.Write([]byte("220 hello\r\n")); wait(s) }, Accepted},
		{"waits for the client, and ends with it", func(_ net.Conn, s *tls.Conn) { wait(s); s.Close() }, Accepted},
		{"the same, without an alert", func(_ net.Conn, s *tls.Conn) { wait(s) }, Accepted},
		{"never ends", func(raw net.Conn, _ *tls.Conn) { wait(raw) }, Unclear},
		{"ends by itself", func(_ net.Conn, s *tls.Conn) { s.Close() }, Refused},
		{"the same, without an alert", func(net.Conn, *tls.Conn) {}, Refused},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := Options{Address: serve(test.after), Timeout: 10 * time.Second, Grace: 300 * time.Millisecond}
			ob, err := Observe(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if ob.Outcome != test.want {
				t.Errorf("%s, want %s:\n%s", ob.Outcome, test.want, messages(ob.Steps))
			}
		})
	}
}

// TestNoHandshake: what is no TLS server, or none that fits, is told as what it is.
func TestNoHandshake(t *testing.T) {
	w := newWorld(t)
	say := func(text string) func(t testing.TB) string {
		return func(t testing.TB) string {
			return listen(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, text)
			})
		}
	}
	tests := []struct {
		name    string
		start   func(t testing.TB) string
		options Options
		outcome Outcome
		text    string
	}{
		{"HTTP", say("HTTP/1.1 400 Bad Request\r\n\r\n"), Options{}, Failed, "does not speak TLS on this port, but HTTP"},
		{"few bytes", say("?"), Options{}, Failed, "does not speak TLS on this port"},
		{"closes at once", say(""), Options{}, Refused, "closed the connection during the handshake, without an alert"},
		{"an alert of its own", say("\x15\x03\x03\x00\x02\x02\x70"), Options{}, Refused, "unrecognized_name (112): it knows no such name"},
		{"an alert without a name", say("\x15\x03\x03\x00\x02\x02\xfe"), Options{}, Refused, "the alert 254"},
		{"an alert that is a warning", say("\x15\x03\x03\x00\x02\x01\x70"), Options{}, Refused, "the server ended the handshake with the alert unrecognized_name (112)"},
		{"a message that does not belong there", say("\x16\x03\x03\x00\x04\x0e\x00\x00\x00"), Options{}, Failed, "the alert unexpected_message (10): received unexpected handshake message of type serverHelloDone when waiting for serverHello"},
		{"a record that does not belong there", say("\x16\x03\x03\x00\x00"), Options{}, Failed, "the client ended the handshake with the alert unexpected_message (10)"},
		{"half an answer", say("\x16\x03\x03\x40\x00abc"), Options{}, Refused, "closed the connection during the handshake"},
		{"silent", func(t testing.TB) string {
			return listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
		}, Options{Timeout: 300 * time.Millisecond}, Failed, "did not go on with the handshake in time"},
		{"TLS 1.1 at most", func(t testing.TB) string {
			return goServer(t, &tls.Config{Certificates: []tls.Certificate{w.server.tls()}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		}, Options{}, Refused, "it wants TLS 1.1 with TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, which clients of today do not offer"},
		{"TLS 1.1 of openssl", func(t testing.TB) string {
			return opensslServer(t, w.server, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
		}, Options{}, Refused, "it wants TLS 1.1"},
		{"TLS 1.2, and only 1.3 is offered", func(t testing.TB) string {
			return opensslServer(t, w.server, "-tls1_2")
		}, Options{MinVersion: tls.VersionTLS13}, Refused, "it speaks TLS 1.2, which was not offered"},
		{"old ciphers", func(t testing.TB) string {
			return opensslServer(t, w.clients["rsa"], "-tls1_2", "-cipher", "AES128-SHA")
		}, Options{}, Refused, "it wants TLS 1.2 with TLS_RSA_WITH_AES_128_CBC_SHA"},
		{"no cipher in common", func(t testing.TB) string {
			return opensslServer(t, w.server, "-tls1_2", "-cipher", "ECDHE-ECDSA-CAMELLIA128-SHA256")
		}, Options{}, Refused, "it has no cipher, group or signature scheme in common"},
		{"no protocol in common", func(t testing.TB) string {
			return goServer(t, &tls.Config{Certificates: []tls.Certificate{w.server.tls()}, NextProtos: []string{"mqtt"}})
		}, Options{Protocols: []string{"h2"}}, Refused, "no_application_protocol (120): it speaks none of h2"},
		{"a certificate that is none", func(t testing.TB) string {
			return goServer(t, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{{1, 2, 3}}, PrivateKey: w.server.key}}})
		}, Options{}, Failed, "the client ended the handshake with the alert decode_error"},
		{"closes after the handshake", func(t testing.TB) string {
			return listen(t, func(conn net.Conn) {
				s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{w.server.tls()}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true})
				_ = s.Handshake() // and no word to the client, whose connection is closed
			})
		}, Options{}, Refused, "closed the connection right after the handshake, without saying why: it seems to require a client certificate"},
		{"no TLS after STARTTLS", func(t testing.TB) string {
			return dialogue(t, nil, "+OK hello\r\n", "> STLS\r\n", "+OK go on\r\n", "+OK go on\r\n")
		}, Options{StartTLS: "pop3"}, Failed, "the server agreed to start TLS, but what it sent then is not TLS"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := test.options
			o.Address, o.ServerName, o.Grace = test.start(t), "localhost", time.Second
			if o.Timeout == 0 {
				o.Timeout = 10 * time.Second
			}
			ob, err := Observe(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			c := Circumstances{Offered: o.Protocols, StartTLS: o.StartTLS}
			if ob.IsAboutTheOffer() {
				o.Weak = true
				if c.Weak, err = Observe(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			verdict := ob.Explain(c)
			if ob.Outcome != test.outcome || !strings.Contains(verdict.Text, test.text) {
				t.Errorf("%s, %q: want %s, %q\n%s", ob.Outcome, verdict.Text, test.outcome, test.text, messages(ob.Steps))
			}
		})
	}
}

// TestAsked: of a server that ends before it could ask, it is not known whether it
// asks for certificates.
func TestAsked(t *testing.T) {
	w := newWorld(t)
	hello := handshakeRecord(2, "\x03\x03"+strings.Repeat("r", 32)+"\x00\xc0\x2b\x00\x00\x05\xff\x01\x00\x01\x00")
	half := listen(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Write(hello)
	})
	if ob := observe(t, Options{Address: half}); ob.Asked || ob.Version != "TLS 1.2" || !ob.Closed {
		t.Errorf("%+v\n%s", ob, messages(ob.Steps))
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		whole := goServer(t, &tls.Config{Certificates: []tls.Certificate{w.server.tls()}, MaxVersion: version})
		if ob := observe(t, Options{Address: whole}); !ob.Asked || ob.Request != nil {
			t.Errorf("%s: %s", ob.Version, messages(ob.Steps))
		}
	}
}

// TestNoConnection: an error names what was tried.
func TestNoConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	for addr, want := range map[string]string{
		closed:                "connection refused",
		"nowhere.invalid:443": "look up nowhere.invalid: ",
	} {
		if _, err := Observe(t.Context(), Options{Address: addr, Timeout: 10 * time.Second}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
}

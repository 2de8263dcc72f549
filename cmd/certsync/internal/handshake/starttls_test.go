package handshake

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// buffered is a connection of which some was read already.
type buffered struct {
	net.Conn
	in *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.in.Read(p) }

// dialogue is a server that says and expects lines in turn, then TLS; expected
// ones begin with "> ".
func dialogue(t testing.TB, c *tls.Config, lines ...string) string {
	return listen(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for _, line := range lines {
			if want, ok := strings.CutPrefix(line, "> "); ok {
				have := make([]byte, len(want))
				if _, err := io.ReadFull(in, have); err != nil || string(have) != want {
					t.Errorf("the client said %q, want %q: %v", have, want, err)
					return
				}
				continue
			}
			// In pieces, as a network may.
			for _, b := range []byte(line) {
				_, _ = conn.Write([]byte{b})
			}
		}
		if c == nil {
			return
		}
		s := tls.Server(buffered{conn, in}, c)
		defer s.Close()
		_, _ = io.Copy(io.Discard, s)
	})
}

func TestStartTLS(t *testing.T) {
	w := newWorld(t)
	c := &tls.Config{Certificates: []tls.Certificate{w.server.tls()}}
	const (
		sslRequest   = "> \x00\x00\x00\x08\x04\xd2\x16\x2f"
		ldapRequest  = "> \x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
		ldapResponse = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
		ldapLong     = "\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00"
		ldapRefused  = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00"
	)
	tests := []struct {
		name, protocol string
		lines          []string
		err            string // empty for a handshake
	}{
		{"postgres", "postgres", []string{sslRequest, "S"}, ""},
		{"postgres without", "postgres", []string{sslRequest, "N"}, "the server has TLS switched off"},
		{"postgres of another kind", "postgres", []string{sslRequest, "E"}, `unexpected answer "E"`},
		{"smtp", "smtp", []string{"220-mx\r\n220 mx\r\n", "> EHLO certsync.invalid\r\n", "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n", "> STARTTLS\r\n", "220 go on\r\n"}, ""},
		{"smtp without", "smtp", []string{"220 mx\r\n", "> EHLO certsync.invalid\r\n", "250 mx\r\n", "> STARTTLS\r\n", "502 no\r\n"}, `unexpected answer "502 no"`},
		{"imap", "imap", []string{"* OK hello\r\n", "> a STARTTLS\r\n", "* BYE the way\r\na OK go on\r\n"}, ""},
		{"imap without", "imap", []string{"* OK hello\r\n", "> a STARTTLS\r\n", "a BAD no\r\n"}, `unexpected answer "a BAD no"`},
		{"pop3", "pop3", []string{"+OK hello\r\n", "> STLS\r\n", "+OK go on\r\n"}, ""},
		{"pop3 without", "pop3", []string{"+OK hello\r\n", "> STLS\r\n", "-ERR no\r\n"}, `unexpected answer "-ERR no"`},
		{"ldap", "ldap", []string{ldapRequest, ldapResponse}, ""},
		{"ldap, long lengths", "ldap", []string{ldapRequest, ldapLong}, ""},
		{"ldap without", "ldap", []string{ldapRequest, ldapRefused}, "result code 52"},
		{"closed", "smtp", nil, "the server closed the connection"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := c
			if test.err != "" {
				config = nil
			}
			ob, err := Observe(t.Context(), Options{Address: dialogue(t, config, test.lines...), StartTLS: test.protocol, ServerName: "localhost", Timeout: 10 * time.Second, Grace: time.Second})
			switch {
			case test.err != "":
				if err == nil || !strings.HasPrefix(err.Error(), "start TLS in "+test.protocol+": ") || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %q", err, test.err)
				}
			case err != nil:
				t.Fatal(err)
			case ob.Outcome != Accepted:
				t.Errorf("%s: %s", ob.Outcome, messages(ob.Steps))
			}
		})
	}
	t.Run("endless", func(t *testing.T) {
		addr := listen(t, func(conn net.Conn) {
			for {
				if _, err := io.WriteString(conn, strings.Repeat("220-x", 100)+"\r\n"); err != nil {
					return
				}
			}
		})
		if _, err := Observe(t.Context(), Options{Address: addr, StartTLS: "smtp", Timeout: 10 * time.Second}); err == nil || !strings.Contains(err.Error(), "does not end") {
			t.Errorf("%v, want an end", err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		addr := listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
		if _, err := Observe(t.Context(), Options{Address: addr, StartTLS: "smtp", Timeout: 300 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "did not answer in time") {
			t.Errorf("%v", err)
		}
	})
}

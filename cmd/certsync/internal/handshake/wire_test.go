package handshake

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recorder keeps what passes on a connection.
type recorder struct {
	net.Conn
	passed []passed
}

type passed struct {
	from Side
	data []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.passed = append(r.passed, passed{Server, bytes.Clone(p[:n])})
	return n, err
}

func (r *recorder) Write(p []byte) (int, error) {
	r.passed = append(r.passed, passed{Client, bytes.Clone(p)})
	return r.Conn.Write(p)
}

// capture shakes hands with a server, and returns what passed and the secrets.
func capture(t testing.TB, w *world, version uint16) ([]passed, secrets) {
	t.Helper()
	addr := goServer(t, &tls.Config{Certificates: []tls.Certificate{w.server.tls()}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: pool(w.root.cert)})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := &recorder{Conn: conn}
	log := secrets{}
	c := config(Options{Certificate: w.clients["rsa"].identity(t).Certificate(), MaxVersion: version, ServerName: "localhost"}, log)
	client := tls.Client(r, c)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	return r.passed, log
}

// TestWireChunks: how the bytes come in, and when the secrets do, makes no
// difference.
func TestWireChunks(t *testing.T) {
	w := newWorld(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			events, log := capture(t, w, version)
			whole := newWire()
			whole.secrets = log
			for _, e := range events {
				whole.pass(e.from, e.data)
			}
			whole.advance(true)
			if last := whole.steps[len(whole.steps)-1]; last.Message != msgFinished {
				t.Fatalf("the end is missing:\n%s", messages(whole.steps))
			}
			parts := newWire()
			for _, e := range events {
				for _, b := range e.data {
					parts.pass(e.from, []byte{b})
					parts.advance(false)
				}
			}
			if strings.Contains(messages(parts.steps), "unread record") {
				t.Errorf("it did not wait for the secrets:\n%s", messages(parts.steps))
			}
			parts.secrets = log
			parts.advance(true)
			if diff := cmp.Diff(messages(whole.steps), messages(parts.steps)); diff != "" {
				t.Errorf("byte by byte (-whole +parts):\n%s", diff)
			}

			blind := newWire()
			for _, e := range events {
				blind.pass(e.from, e.data)
			}
			blind.advance(true)
			if have := messages(blind.steps); !strings.Contains(have, "s unread record*") && !strings.Contains(have, "s unread handshake message*") {
				t.Errorf("without secrets:\n%s", have)
			}
		})
	}
}

// TestSecretsStay: no secret is in what is told, and none is left.
func TestSecretsStay(t *testing.T) {
	w := newWorld(t)
	events, log := capture(t, w, tls.VersionTLS13)
	wire := newWire()
	wire.secrets = log
	for _, e := range events {
		wire.pass(e.from, e.data)
	}
	wire.advance(true)
	told, err := json.Marshal(wire.steps)
	if err != nil {
		t.Fatal(err)
	}
	told = fmt.Appendf(told, "%+v", wire.steps)
	if len(log) < 4 {
		t.Fatalf("only %d secrets", len(log))
	}
	kept := slices.Collect(maps.Values(log))
	for label, secret := range log {
		if bytes.Contains(told, fmt.Appendf(nil, "%x", secret)) || bytes.Contains(told, secret) {
			t.Errorf("%s is told", label)
		}
	}
	log.wipe()
	if len(log) > 0 || slices.ContainsFunc(kept, func(s []byte) bool { return !bytes.Equal(s, make([]byte, len(s))) }) {
		t.Error("secrets are left")
	}
}

// handshakeRecord is a record with one handshake message.
func handshakeRecord(kind byte, body string) []byte {
	n := len(body)
	message := append([]byte{kind, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	return append([]byte{recordHandshake, 3, 3, byte(len(message) >> 8), byte(len(message))}, message...)
}

// TestWireMalformed: what cannot be decoded is told to be there.
func TestWireMalformed(t *testing.T) {
	random := strings.Repeat("r", 32)
	hello12 := handshakeRecord(2, "\x03\x03"+random+"\x00\xc0\x2b\x00")
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"short server hello", handshakeRecord(2, "\x03\x03"), "s malformed server hello\n"},
		{"server hello without extensions", hello12, "s server hello\n"},
		{"extensions longer than the message", handshakeRecord(2, "\x03\x03"+random+"\x00\xc0\x2b\x00\xff\xff"), "s malformed server hello\n"},
		{"certificates longer than the message", slices.Concat(hello12, handshakeRecord(11, "\x00\x00\x09\x00\x00\xff")), "s server hello\ns malformed certificate\n"},
		{"a certificate that is none", slices.Concat(hello12, handshakeRecord(11, "\x00\x00\x05\x00\x00\x02hi")), "s server hello\ns certificate 1\n"},
		{"no certificate", slices.Concat(hello12, handshakeRecord(11, "\x00\x00\x00")), "s server hello\ns certificate 0\n"},
		{"a key exchange without a curve", slices.Concat(hello12, handshakeRecord(12, "\x01\x00")), "s server hello\ns malformed server key exchange\n"},
		{"a request cut short", slices.Concat(hello12, handshakeRecord(13, "\x01\x40\x00\x02\x04\x03\x00\x05ab")), "s server hello\ns malformed certificate request\n"},
		{"a name that is none", slices.Concat(hello12, handshakeRecord(13, "\x01\x40\x00\x02\x04\x03\x00\x04\x00\x02hi")), "s server hello\ns certificate request\n"},
		{"unknown message", handshakeRecord(77, "x"), "s handshake message of type 77\n"},
		{"a message over the limit", []byte{recordHandshake, 3, 3, 0, 4, 2, 0xff, 0xff, 0xff}, "s oversized server hello\n"},
		{"a record over the limit", []byte{recordHandshake, 3, 3, 0xff, 0xff}, "s not TLS\n"},
		{"an alert of three bytes", []byte{recordAlert, 3, 3, 0, 3, 2, 40, 0}, "s malformed alert\n"},
		{"a heartbeat", []byte{24, 3, 3, 0, 1, 0}, "s unknown record\n"},
		{"empty record", []byte{recordHandshake, 3, 3, 0, 0}, ""},
		{"encrypted garbage", slices.Concat(hello12, []byte{recordChangeCipherSpec, 3, 3, 0, 1, 1, recordHandshake, 3, 3, 0, 2, 0, 0}), "s server hello\ns change cipher spec\ns unread handshake message*\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWire()
			w.pass(Server, test.data)
			w.advance(true)
			if diff := cmp.Diff(test.want, messages(w.steps)); diff != "" {
				t.Errorf("-want +have:\n%s", diff)
			}
		})
	}
}

// TestNameOf: a name of a CA is never nothing.
func TestNameOf(t *testing.T) {
	for der, want := range map[string]string{
		"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x13\x01\x61": "CN=a",
		"\x30\x00": "an empty name",
		"hi":       "malformed name 6869",
	} {
		if have := nameOf([]byte(der)); have != want {
			t.Errorf("%x: %q, want %q", der, have, want)
		}
	}
}

// TestWireBounds: a server that goes on for ever does not keep the decoder busy.
func TestWireBounds(t *testing.T) {
	w := newWire()
	for range 3 * maxSteps {
		w.pass(Server, handshakeRecord(0, ""))
		w.advance(false)
	}
	for range 10 {
		w.pass(Client, []byte{recordAlert, 3, 3, 0, 2, 2, 10})
		w.advance(false)
	}
	end := "s more messages\nc alert unexpected_message\nc alert unexpected_message\n"
	if have := messages(w.steps[maxSteps:]); have != end {
		t.Errorf("the end of the steps is %q", have)
	}
	w = newWire()
	for range 200 {
		w.pass(Server, append([]byte{recordHandshake, 3, 3, 0x40, 0}, make([]byte, 0x4000)...))
	}
	if w.received != maxBytes || len(w.queue) > maxBytes/0x4000 {
		t.Errorf("%d bytes taken, %d records", w.received, len(w.queue))
	}
}

// FuzzWire: nothing that a server sends makes the decoder fail, and it stays
// within its bounds.
func FuzzWire(f *testing.F) {
	w := newWorld(f)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		events, _ := capture(f, w, version)
		var hello, answer []byte
		for _, e := range events {
			if e.from == Server {
				answer = append(answer, e.data...)
			} else if hello == nil {
				hello = e.data
			}
		}
		f.Add(hello, answer)
	}
	f.Add([]byte{}, handshakeRecord(13, "\x01\x40\x00\x02\x04\x03\x00\x04\x00\x02hi"))
	f.Fuzz(func(t *testing.T, client, server []byte) {
		w := newWire()
		// Any secret: what it decrypts to is garbage, which fails the tag.
		for _, label := range []string{"CLIENT_RANDOM", "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET"} {
			fmt.Fprintf(w.secrets, "%s 00 %064x\n", label, 1)
		}
		w.pass(Client, client)
		w.pass(Server, server)
		w.advance(false)
		w.advance(true)
		if len(w.steps) > maxSteps+3 || len(w.queue) > 0 {
			t.Errorf("%d steps, %d records left", len(w.steps), len(w.queue))
		}
		if _, err := json.Marshal(w.steps); err != nil {
			t.Error(err)
		}
	})
}

// FuzzMessage: the same, for messages that come encrypted, which FuzzWire does not
// reach.
func FuzzMessage(f *testing.F) {
	w := newWorld(f)
	events, log := capture(f, w, tls.VersionTLS13)
	wire := newWire()
	wire.secrets = log
	for _, e := range events {
		wire.pass(e.from, e.data)
	}
	wire.advance(true)
	f.Add(byte(13), true, []byte("\x00\x00\x0e\x00\x2f\x00\x06\x00\x04\x00\x02hi\x00\x0d\x00\x00"))
	f.Add(byte(8), true, []byte("\x00\x07\x00\x10\x00\x03\x00\x02\x01h"))
	f.Add(byte(11), false, []byte("\x00\x00\x05\x00\x00\x02hi"))
	f.Add(byte(24), true, []byte{0})
	f.Fuzz(func(t *testing.T, kind byte, v13 bool, body []byte) {
		w := newWire()
		w.version, w.suite = tls.VersionTLS12, 0x1301
		if v13 {
			w.version = tls.VersionTLS13
		}
		w.handshake(Server, kind, body, v13)
		if len(w.steps) != 1 {
			t.Errorf("%d steps", len(w.steps))
		}
	})
}

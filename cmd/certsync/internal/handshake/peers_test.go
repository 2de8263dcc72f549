package handshake

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// goServer serves with crypto/tls: each connection until its client ends it, with
// no word of its own.
func goServer(t testing.TB, c *tls.Config) string {
	t.Helper()
	return listen(t, func(conn net.Conn) {
		s := tls.Server(conn, c)
		defer s.Close()
		_, _ = io.Copy(io.Discard, s)
	})
}

// listen serves connections, each in its own goroutine.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// need finds a program, which CI must have.
func need(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

var accepting = regexp.MustCompile(`(?m)^ACCEPT \S*:(\d+)`)

// opensslServer runs openssl s_server until the end of the test.
func opensslServer(t testing.TB, p *party, args ...string) string {
	t.Helper()
	need(t, "openssl")
	cert, key := p.files(t)
	out := start(t, "openssl", append([]string{"s_server", "-accept", "127.0.0.1:0", "-www", "-cert", cert, "-key", key}, args...)...)
	var seen bytes.Buffer
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		if m := accepting.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, out) // so that it never waits for a reader
			return "127.0.0.1:" + m[1]
		}
	}
	t.Fatalf("openssl s_server did not start:\n%s", &seen)
	return ""
}

// gnutlsServer runs gnutls-serv until the end of the test.
func gnutlsServer(t testing.TB, p *party, args ...string) string {
	t.Helper()
	need(t, "gnutls-serv")
	cert, key := p.files(t)
	// It takes no port 0; another program may take the one that is free now.
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		_, port, _ := strings.Cut(addr, ":")
		out := start(t, "gnutls-serv", append([]string{"--echo", "--port", port, "--x509certfile", cert, "--x509keyfile", key}, args...)...)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "listening on IPv4") && strings.HasSuffix(lines.Text(), "done") {
				go io.Copy(io.Discard, out) // so that it never waits for a reader
				return addr
			}
		}
	}
	t.Fatal("gnutls-serv did not start")
	return ""
}

// start starts a program that ends with the test, and returns what it writes.
func start(t testing.TB, name string, args ...string) io.Reader {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
		r.Close()
	})
	return r
}

func observe(t testing.TB, o Options) *Observation {
	t.Helper()
	o.ServerName = "localhost"
	o.Timeout, o.Grace = 10*time.Second, time.Second
	ob, err := Observe(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return ob
}

// messages lists the steps shortly: c and s for the sides, * for what was encrypted.
func messages(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(string(s.From[:1]) + " " + s.Message)
		if s.Encrypted {
			b.WriteString("*")
		}
		if s.Certificates != nil {
			b.WriteString(" " + strconv.Itoa(len(*s.Certificates)))
		}
		if s.Alert != nil {
			b.WriteString(" " + s.Alert.Name)
		}
		b.WriteString("\n")
	}
	return b.String()
}

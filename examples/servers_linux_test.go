package examples

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A service is what clients know of the server in a folder.
type service struct {
	*folder
	hello string // what alice gets
	// ask is the client that people use, with the certificate pki/CLIENT.crt, or none.
	// It returns all that the client tells, and an error if it was refused or refuses.
	ask func(host, client string) (string, error)
	// greet does what comes before TLS; nil is nothing.
	greet func(net.Conn) error
	// reload has the server read its files again.
	reload func()
	// refusals are why each client is refused, as the server tells or logs it.
	refusals map[string]string
	// otherName is how the client refuses a server of another name.
	otherName string
	// inspectFlags are those that certsync inspect needs for the server.
	inspectFlags []string
	// judgesLater tells of a server that takes any certificate in the handshake.
	judgesLater bool
}

// alerts are how openssl refuses clients in the handshake of TLS 1.2, in the words of
// crypto/tls.
var alerts = map[string]string{
	"":            "remote error: tls: handshake failure",
	"stranger":    "remote error: tls: unknown certificate authority",
	"wrong-usage": "remote error: tls: unsupported certificate",
	"expired":     "remote error: tls: expired certificate",
}

func TestNginx(t *testing.T) {
	nginx := program(t, "nginx")
	need(t, "curl")
	f := newFolder(t, "nginx", "8443", "")
	f.start(t, syscall.SIGTERM, nginx, "-p", ".", "-c", "nginx.conf", "-g", "daemon off; error_log stderr info;")
	f.test(t, service{
		hello:  "hello CN=alice",
		ask:    f.curl,
		reload: func() { f.mustRun(t, nginx, "-p", ".", "-c", "nginx.conf", "-s", "reload") },
		refusals: map[string]string{
			"": "400 No required SSL certificate was sent",
			// The numbers are those of openssl verify's manual page, the words differ.
			"stranger":    "SSL certificate verify error: (21:",
			"wrong-usage": "SSL certificate verify error: (26:",
			"expired":     "SSL certificate verify error: (10:",
		},
		judgesLater: true,
		otherName:   "SSL: no alternative certificate subject name matches target host name '127.0.0.1'",
	})
}

func TestHAProxy(t *testing.T) {
	haproxy := program(t, "haproxy")
	need(t, "curl")
	f := newFolder(t, "haproxy", "8443", "")
	f.mustRun(t, haproxy, "-c", "-f", "haproxy.cfg")
	f.start(t, syscall.SIGTERM, haproxy, "-W", "-f", "haproxy.cfg")
	f.test(t, service{
		hello:     "hello alice",
		ask:       f.curl,
		reload:    func() { f.signal(t, syscall.SIGUSR2) },
		refusals:  alerts,
		otherName: "SSL: no alternative certificate subject name matches target host name '127.0.0.1'",
	})
}

// curl is the client of HTTP servers.
func (f *folder) curl(host, client string) (string, error) {
	args := []string{"--silent", "--show-error", "--fail-with-body", "--noproxy", "*", "--max-time", "20", "--cacert", "pki/ca.crt"}
	if client != "" {
		args = append(args, "--cert", "pki/"+client+".crt", "--key", "pki/"+client+".key")
	}
	return f.run("curl", append(args, "https://"+net.JoinHostPort(host, f.port)+"/")...)
}

func TestPostgres(t *testing.T) {
	initdb, postgres, pgctl := program(t, "initdb"), program(t, "postgres"), program(t, "pg_ctl")
	createuser, psql := program(t, "createuser"), program(t, "psql")
	f := newFolder(t, "postgres", "5432", "postgres")
	data := filepath.Join(f.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if f.user != nil {
		if err := os.Chown(data, int(f.user.Uid), int(f.user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	f.mustRunAsServer(t, initdb, "-D", "data", "--no-sync", "--auth", "reject")
	f.start(t, syscall.SIGINT, postgres, "-D", "data", // SIGINT does not wait for clients
		"-c", "config_file="+filepath.Join(f.dir, "postgresql.conf"), "-c", "hba_file="+filepath.Join(f.dir, "pg_hba.conf"))
	f.eventually(t, func() error {
		out, err := f.command(f.user, createuser, "--host", data, "--port", f.port, "alice").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("createuser: %w\n%s", err, out)
		}
		return err
	})

	refusals := maps.Clone(alerts)
	refusals[""] = "FATAL:  connection requires a valid client certificate"
	ask := func(user, host, client string) (string, error) {
		target := fmt.Sprintf("host=%s port=%s user=%s dbname=postgres sslmode=verify-full sslrootcert=pki/ca.crt", host, f.port, user)
		if client != "" {
			target += fmt.Sprintf(" sslcert=pki/%s.crt sslkey=pki/%s.key", client, client)
		}
		return f.run(psql, target, "--tuples-only", "--no-align", "--command", "SELECT 'hello ' || current_user")
	}
	s := service{
		hello: "hello alice",
		ask:   func(host, client string) (string, error) { return ask("alice", host, client) },
		greet: func(conn net.Conn) error {
			// SSLRequest, of the message flow in PostgreSQL's documentation.
			if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
				return err
			}
			var answer [1]byte
			if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != 'S' {
				return fmt.Errorf("the server answers SSLRequest with %q, %w", answer, err)
			}
			return nil
		},
		reload:       func() { f.mustRunAsServer(t, pgctl, "-D", "data", "reload") },
		refusals:     refusals,
		otherName:    `server certificate for "localhost" does not match host name "127.0.0.1"`,
		inspectFlags: []string{"--starttls", "postgres"},
	}
	f.test(t, s)
	t.Run("a client is nobody else", func(t *testing.T) {
		out, err := ask("postgres", "localhost", "alice")
		if err == nil || !strings.Contains(out, `certificate authentication failed for user "postgres"`) {
			t.Errorf("alice as the user postgres: %v\n%s", err, out)
		}
	})
	t.Run("without TLS there is nothing", func(t *testing.T) {
		out, err := f.run(psql, "host=localhost port="+f.port+" user=alice dbname=postgres sslmode=disable", "-c", "SELECT 1")
		if err == nil || !strings.Contains(out, "no pg_hba.conf entry") {
			t.Errorf("a client without TLS: %v\n%s", err, out)
		}
	})
}

func TestRedis(t *testing.T) {
	redis, cli := program(t, "redis-server"), program(t, "redis-cli")
	f := newFolder(t, "redis", "6379", "redis")
	f.start(t, syscall.SIGTERM, redis, "redis.conf", "--save", "") // nothing to write at the end
	ask := func(host, client string, words ...string) (string, error) {
		args := []string{"-h", host, "-p", f.port, "--tls", "--cacert", "pki/ca.crt"}
		if client != "" {
			args = append(args, "--cert", "pki/"+client+".crt", "--key", "pki/"+client+".key")
		}
		return f.run(cli, append(args, words...)...)
	}
	f.test(t, service{
		hello: "hello",
		ask:   func(host, client string) (string, error) { return ask(host, client, "-e", "ECHO", "hello") },
		reload: func() {
			out, err := ask("localhost", "alice", "-e", "CONFIG", "SET", "tls-cert-file", "pki/server.crt")
			if err != nil || strings.TrimSpace(out) != "OK" {
				t.Fatalf("CONFIG SET: %v\n%s", err, out)
			}
		},
		refusals: alerts,
		// redis-cli does not look at the server's name.
	})
	t.Run("without TLS there is nothing", func(t *testing.T) {
		if out, err := f.run(cli, "-h", "localhost", "-p", f.port, "-e", "PING"); err == nil {
			t.Errorf("a client without TLS is let in:\n%s", out)
		}
	})
}

// test sees whom the server lets in, and what it serves after a renewal.
func (f *folder) test(t *testing.T, s service) {
	s.folder = f
	alice := func() error {
		out, err := s.ask("localhost", "alice")
		if err == nil && strings.TrimSpace(out) != s.hello {
			err = errors.New("the answer is not " + s.hello)
		}
		if err != nil {
			err = fmt.Errorf("alice: %w\n%s", err, out)
		}
		return err
	}
	f.eventually(t, alice) // it has started

	for _, client := range []string{"", "stranger", "wrong-usage", "expired"} {
		t.Run("refuses "+cmp.Or(client, "no certificate"), func(t *testing.T) {
			before := len(f.log(t))
			out, err := s.ask("localhost", client)
			if err == nil {
				t.Fatalf("it was let in:\n%s", out)
			}
			_, handshake := s.handshake("localhost", client)
			f.eventually(t, func() error {
				told := fmt.Sprintf("%s\n%v\n%s", out, handshake, f.log(t)[before:])
				if why := s.refusals[client]; why == "" || !strings.Contains(told, why) {
					return fmt.Errorf("nobody says %q:\n%s", why, told)
				}
				return nil
			})
		})
	}
	t.Run("inspect tells it", s.inspect)
	t.Run("a server of another name is refused", func(t *testing.T) {
		var other x509.HostnameError
		if _, err := s.handshake("127.0.0.1", "alice"); !errors.As(err, &other) {
			t.Errorf("crypto/tls: %v", err)
		}
		if s.otherName == "" {
			return
		}
		if out, err := s.ask("127.0.0.1", "alice"); err == nil || !strings.Contains(out, s.otherName) {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("after a renewal and a reload the new certificate is served", func(t *testing.T) {
		before, err := s.handshake("localhost", "alice")
		if err != nil {
			t.Fatal(err)
		}
		f.mustRun(t, certsync, "apply", "--yes", "--replace", "server")
		s.reload()
		f.eventually(t, func() error {
			after, err := s.handshake("localhost", "alice")
			if err == nil && after.SerialNumber.Cmp(before.SerialNumber) == 0 {
				err = errors.New("the old certificate is served")
			}
			return err
		})
		f.eventually(t, alice)
	})
	if f.server.ended() {
		t.Errorf("the server ended:\n%s", f.log(t))
	}
}

// handshake returns the certificate that the server serves, if it lets the client in
// and the client the server. In TLS 1.3 a client knows only later whether it is in.
func (s *service) handshake(host, client string) (*x509.Certificate, error) {
	ca, err := os.ReadFile(filepath.Join(s.dir, "pki/ca.crt"))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: host, MaxVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(ca)
	if client != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "pki", client+".crt"), filepath.Join(s.dir, "pki", client+".key"))
		if err != nil {
			return nil, err
		}
		// Whatever CAs the server asks for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", s.port))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if s.greet != nil {
		if err := s.greet(conn); err != nil {
			return nil, err
		}
	}
	secure := tls.Client(conn, config)
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	return secure.ConnectionState().PeerCertificates[0], nil
}

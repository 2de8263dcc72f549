package examples

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A folder is a copy of an example, with all that its spec issues. Its server
// listens at a free port.
type folder struct {
	dir    string
	port   string
	user   *syscall.Credential // who runs the server; nil is who runs the test
	server *process
}

// strangers are clients that no server of an example may let in, beside expired,
// which makeExpired makes. All of them say that they are alice, of the same CA.
const strangers = `
---
apiVersion: certsync/v1
issuers:
  strangers:
    ca: {commonName: example CA, files: {certificate: pki/strangers-ca.crt, privateKey: pki/strangers-ca.key}}
certificates:
  stranger:
    issuer: strangers
    profile: client
    commonName: alice
    files: {certificate: pki/stranger.crt, privateKey: pki/stranger.key}
  wrong-usage:
    profile: server
    commonName: alice
    dnsNames: [localhost]
    files: {certificate: pki/wrong-usage.crt, privateKey: pki/wrong-usage.key}
`

// newFolder copies an example, replaces the port in the configuration by a free one,
// adds the strangers to the spec, and applies it. If root runs the test, the server
// is to run as the user, who is also stated in the spec.
func newFolder(t *testing.T, example, port, serverUser string) *folder {
	t.Helper()
	dir := t.TempDir()
	public := func(path string) { // the umask may be another, and t.TempDir is for one user
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "pki"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Dir(dir), dir, filepath.Join(dir, "pki")} {
		public(path)
	}
	f := &folder{dir: dir, port: freePort(t)}
	if serverUser != "" && os.Geteuid() == 0 {
		f.user = credential(t, serverUser)
	}
	entries, err := os.ReadDir(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() { // of who tries the example in place
			continue
		}
		text := read(t, filepath.Join(example, e.Name()))
		switch {
		case e.Name() != "certsync.yaml":
			text = strings.ReplaceAll(text, port, f.port)
		case f.user == nil:
			text = asMyself(text) + strangers
		default:
			text += strangers
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		public(filepath.Join(dir, e.Name()))
	}
	f.mustRun(t, certsync, "apply", "--yes")
	f.makeExpired(t)
	return f
}

// makeExpired has the CA sign alice for yesterday.
func (f *folder) makeExpired(t *testing.T) {
	t.Helper()
	path := func(name string) string { return filepath.Join(f.dir, "pki", name) }
	ca, err := tls.LoadX509KeyPair(path("ca.crt"), path("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	alice, err := tls.LoadX509KeyPair(path("alice.crt"), path("alice.key"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "alice"},
		NotBefore:    time.Now().Add(-48 * time.Hour),
		NotAfter:     time.Now().Add(-24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.Leaf, alice.Leaf.PublicKey, ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("expired.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path("alice.key"), path("expired.key")); err != nil {
		t.Fatal(err)
	}
}

func (f *folder) start(t *testing.T, end syscall.Signal, program string, args ...string) {
	t.Helper()
	f.server = start(t, f.command(f.user, program, args...), filepath.Join(f.dir, "server.log"), end)
}

// command is to be run in the folder, by the user or, if that is nil, by who runs the
// test. Settings of theirs do not matter.
func (f *folder) command(as *syscall.Credential, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = f.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return cmd
}

func (f *folder) run(program string, args ...string) (string, error) {
	out, err := f.command(nil, program, args...).CombinedOutput()
	return string(out), err
}

func (f *folder) mustRun(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := f.run(program, args...); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

func (f *folder) mustRunAsServer(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := f.command(f.user, program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

func (f *folder) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := f.server.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (f *folder) log(t *testing.T) string { return read(t, f.server.log) }

// eventually repeats what the server does some time after it was told to.
func (f *folder) eventually(t *testing.T, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
		if f.server.ended() {
			break
		}
	}
	t.Fatalf("%v\nthe server's log:\n%s", err, f.log(t))
}

// program finds a program, also where Debian has those that are not for everyone. In
// CI it has to be there.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, pattern := range []string{"/usr/sbin/", "/usr/lib/postgresql/*/bin/"} {
		if found, err := filepath.Glob(pattern + name); err == nil && len(found) > 0 {
			return found[len(found)-1]
		}
	}
	need(t, name)
	return ""
}

func credential(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

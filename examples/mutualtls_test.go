package examples

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// javaTLS are the system properties that give Java its keystore and truststore.
func javaTLS(keystore string) []string {
	kind := "PKCS12"
	if strings.HasSuffix(keystore, ".jks") {
		kind = "JKS"
	}
	var args []string
	for _, store := range []string{"keyStore", "trustStore"} {
		args = append(args, "-Djavax.net.ssl."+store+"="+keystore, "-Djavax.net.ssl."+store+"Type="+kind,
			"-Djavax.net.ssl."+store+"Password="+keystorePassword)
	}
	return append(args, "-XX:TieredStopAtLevel=1")
}

// TestMutualTLS has clients of every kind show what the example issues to a server
// that insists on it, with each kind of key; without a certificate each is refused.
func TestMutualTLS(t *testing.T) {
	need(t, "curl", "gnutls-cli", "node", "java", "javac")
	classes := t.TempDir()
	mustRun(t, "keystores", "javac", "-d", classes, "Orders.java", "Shop.java")
	script, err := filepath.Abs("keystores/orders.mjs")
	if err != nil {
		t.Fatal(err)
	}
	const trust = "pki/root.crt"
	for _, algorithm := range []string{"RSA", "ECDSA", "Ed25519"} {
		dir := copyOf(t, "keystores/certsync.yaml")
		mustRun(t, dir, certsync, "--set", "algorithm="+algorithm, "apply", "--yes")
		java := func(keystore string, args ...string) []string {
			return append(append([]string{"java", "-cp", classes}, javaTLS(keystore)...), args...)
		}

		url, refusals := serveMutualTLS(t, dir)
		host, port, _ := strings.Cut(strings.Trim(strings.TrimPrefix(url, "https://"), "/"), ":")
		curl := []string{"curl", "-sS", "--cacert", trust, url}
		gnutls := []string{"sh", "-c", `printf 'GET / HTTP/1.0\r\n\r\n' | gnutls-cli "$@"`, "gnutls-cli", "--x509cafile", trust, "-p", port, host}
		for _, c := range []struct {
			name    string
			command []string
			refused bool
		}{
			{"curl", append(curl, "--cert", "pki/orders.crt", "--key", "pki/orders.key"), false},
			{"curl PKCS12", append(curl, "--cert-type", "P12", "--cert", "pki/orders.p12:"+keystorePassword), false},
			{"curl without", curl, true},
			{"gnutls-cli", append(gnutls, "--x509certfile", "pki/orders.crt", "--x509keyfile", "pki/orders.key"), false},
			{"gnutls-cli without", gnutls, true},
			{"node PKCS12", []string{"node", script, url}, false},
			{"node", []string{"node", "-e", nodePEM, url, "pki/orders.crt", "pki/orders.key"}, false},
			{"node without", []string{"node", "-e", nodePEM, url}, true},
			{"java PKCS12", java("pki/orders.p12", "Orders", url), false},
			{"java JKS", java("pki/orders.jks", "Orders", url), false},
			{"java without", append(java("pki/orders.p12")[:3], "-Djavax.net.ssl.trustStore=pki/orders.p12",
				"-Djavax.net.ssl.trustStorePassword="+keystorePassword, "Orders", url), true},
		} {
			t.Run(algorithm+"/"+c.name, func(t *testing.T) {
				out, err := command(dir, c.command[0], c.command[1:]...)
				switch {
				case !c.refused && (err != nil || !strings.Contains(out, "hello CN=orders")):
					t.Errorf("%v\n%s", err, out)
				case c.refused && (err == nil || strings.Contains(out, "hello")):
					t.Errorf("not refused: %v\n%s", err, out)
				}
				// What the client learns depends on how fast it is; the server knows.
				if c.refused {
					select {
					case why := <-refusals:
						if !strings.Contains(why, "client didn't provide a certificate") {
							t.Errorf("refused for another reason: %s", why)
						}
					case <-time.After(time.Minute):
						t.Errorf("the server has refused nobody:\n%s", out)
					}
				}
			})
		}

		for _, keystore := range []string{"pki/shop.p12", "pki/shop.jks"} {
			t.Run(algorithm+"/java serves "+keystore, func(t *testing.T) {
				url := startShop(t, dir, java(keystore, "Shop", "0"))
				curl := []string{"-sS", "--cacert", trust, url}
				out, err := command(dir, "curl", append(curl, "--cert", "pki/orders.crt", "--key", "pki/orders.key")...)
				if err != nil || out != "hello CN=orders\n" {
					t.Errorf("%v\n%s", err, out)
				}
				if out, err := command(dir, "curl", curl...); err == nil || strings.Contains(out, "hello") {
					t.Errorf("without a certificate: not refused: %v\n%s", err, out)
				}
			})
		}
	}
}

// TestMutualTLSFromKeystores has clients open a PKCS#12 file of each profile, and
// with passwords that are not ASCII. What one does not open the guide tells.
func TestMutualTLSFromKeystores(t *testing.T) {
	need(t, "curl", "node", "java", "javac")
	classes, dir := t.TempDir(), t.TempDir()
	mustRun(t, "keystores", "javac", "-d", classes, "Orders.java")
	script, err := filepath.Abs("keystores/orders.mjs")
	if err != nil {
		t.Fatal(err)
	}
	text := `apiVersion: certsync/v1
issuers:
  root: {ca: {commonName: root, files: {certificate: pki/root.crt, privateKey: pki/root.key}}}
defaults: {issuer: root}
certificates:
  shop: {profile: server, dnsNames: [localhost], files: {fullChain: pki/shop.crt, privateKey: pki/shop.key}}
`
	const opened = ""
	stores := []struct {
		profile, password string
		curl, node, java  string // opened, or what it says
	}{
		{"Modern2023", "pässwörd-€-密", opened, opened, "DefaultSSLContext"},
		{"Modern2023", "", opened, opened, "the trustAnchors parameter must be non-empty"},
		{"LegacyDES", "changeit", opened, opened, opened},
		{"LegacyRC2", "changeit", "unsupported", "nsupported", opened},
		{"Passwordless", "", opened, opened, "Exception"}, // it finds the trust anchor alone
	}
	for i, s := range stores {
		password := fmt.Sprintf(", passwordFile: pass%d", i)
		if s.profile == "Passwordless" {
			password = ""
		} else if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("pass%d", i)), []byte(s.password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("  orders%d: {profile: client, commonName: orders, pkcs12: {path: %d.p12, profile: %s%s}}\n", i, i, s.profile, password)
	}
	if err := os.WriteFile(filepath.Join(dir, "certsync.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, dir, certsync, "apply", "--yes")
	url, _ := serveMutualTLS(t, dir)
	for i, s := range stores {
		store := fmt.Sprintf("%d.p12", i)
		java := []string{"java", "-cp", classes, "-XX:TieredStopAtLevel=1"}
		for _, kind := range []string{"keyStore", "trustStore"} {
			java = append(java, "-Djavax.net.ssl."+kind+"="+store, "-Djavax.net.ssl."+kind+"Password="+s.password)
		}
		for _, c := range []struct {
			name, says string
			command    []string
		}{
			{"curl", s.curl, []string{"curl", "-sS", "--cacert", "pki/root.crt", "--cert-type", "P12", "--cert", store + ":" + s.password, url}},
			{"node", s.node, []string{"env", "KEYSTORE_PASSWORD=" + s.password, "node", script, url, store}},
			{"java", s.java, append(java, "Orders", url)},
		} {
			t.Run(fmt.Sprintf("%s/%q/%s", s.profile, s.password, c.name), func(t *testing.T) {
				out, err := command(dir, c.command[0], c.command[1:]...)
				switch greeted := err == nil && strings.Contains(out, "hello CN=orders"); {
				case c.says == opened && !greeted:
					t.Errorf("%v\n%s", err, out)
				case c.says != opened && (greeted || !strings.Contains(out, c.says)):
					t.Errorf("known not to open this, with %q: %v\n%s", c.says, err, out)
				}
			})
		}
	}
}

// nodePEM is a client of node's with PEM files.
const nodePEM = `
const fs = require('fs'), [url, cert, key] = process.argv.slice(1);
const options = {ca: fs.readFileSync('pki/root.crt'), cert: cert && fs.readFileSync(cert), key: key && fs.readFileSync(key)};
require('https').get(url, options, r => r.pipe(process.stdout)).on('error', e => { console.error(e.message); process.exitCode = 1; });
`

// serveMutualTLS serves as the shop, and returns its URL and why it refuses clients.
func serveMutualTLS(t *testing.T, dir string) (string, <-chan string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "pki/shop.crt"), filepath.Join(dir, "pki/shop.key"))
	if err != nil {
		t.Fatal(err)
	}
	anchors := x509.NewCertPool()
	anchors.AppendCertsFromPEM([]byte(read(t, filepath.Join(dir, "pki/root.crt"))))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello", r.TLS.PeerCertificates[0].Subject)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: anchors}
	refusals := make(lines, 100)
	server.Config.ErrorLog = log.New(refusals, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/", refusals
}

// lines passes on what is written, line by line.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// startShop starts the server in Java, and returns the URL that it writes.
func startShop(t *testing.T, dir string, args []string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // which tells that it was killed
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return strings.TrimSpace(url)
}

package kubetest

import (
	"bytes"
	"context"
	"encoding/json"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// somebody is a person with a browser, who may what administrators may.
const somebody = `
apiVersion: certsync/v1
certificates:
  somebody:
    profile: client
    commonName: somebody
    subject: {organizations: ["kubeadm:cluster-admins"]}
    pkcs12: {path: somebody.p12, passwordFile: somebody.pass}
`

// testBrowser opens the apiserver's page in Chromium: with the root among the
// authorities that it trusts there is no warning, and with the keystore imported it
// shows the client certificate.
func testBrowser(t *testing.T, c *ControlPlane) {
	requireTools(t, "chromium", "certutil", "pk12util")
	for name, text := range map[string]string{"somebody.yaml": somebody, "somebody.pass": "Schlüssel 7\n"} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := c.Certsync(t.Context(), "apply", "--yes"); err != nil {
		t.Fatalf("certsync apply: %v\n%s", err, out)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(c.URL, "https://"), ":")
	for _, test := range []struct {
		name         string
		root, client bool
		url          string
		want         string // in the page
		warning      string // instead of a page
	}{
		{"with the root and the keystore", true, true, c.URL, `"/apis/certificates.k8s.io/v1"`, ""},
		{"by name", true, true, "https://localhost:" + port, `"/apis/certificates.k8s.io/v1"`, ""},
		{"without the keystore", true, false, c.URL, `"code": 401`, ""},
		{"without the root", false, true, c.URL, "", "ERR_CERT_AUTHORITY_INVALID"},
		{"by a name that the certificate has not", true, true, "https://other.test:" + port, "", "ERR_CERT_COMMON_NAME_INVALID"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBrowser(t)
			if test.root {
				b.run("certutil", "-A", "-d", b.database, "-n", "root", "-t", "C,,", "-i", c.pki("ca.crt"))
			}
			if test.client {
				b.run("pk12util", "-i", filepath.Join(c.Dir, "somebody.p12"), "-d", b.database, "-w", filepath.Join(c.Dir, "somebody.pass"))
			}
			page, warning := b.open(test.url)
			if warning != test.warning || !strings.Contains(page, test.want) || test.want == "" && page != "" {
				t.Errorf("the warning is %q, want %q; the page is\n%s", warning, test.warning, page)
			}
			if test.want != "" {
				b.wantPicture()
			}
		})
	}
}

// requireTools skips a test without the programs that it runs, and fails it in CI.
func requireTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// browser is Chromium with a home of its own, which has the database of NSS where
// Chromium looks for what a user trusts, and for their certificates.
type browser struct {
	t                            *testing.T
	home, profile, database, png string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	b := &browser{t: t, home: t.TempDir(), png: filepath.Join(t.ArtifactDir(), "page.png")}
	b.profile = filepath.Join(b.home, "profile")
	nssdb := filepath.Join(b.home, ".pki", "nssdb")
	for _, dir := range []string{nssdb, filepath.Join(b.profile, "Default")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.database = "sql:" + nssdb
	b.run("certutil", "-N", "-d", b.database, "--empty-password")
	return b
}

func (b *browser) run(name string, args ...string) {
	b.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

var netError = regexp.MustCompile(`Page load failed: net::(\w+)`)

// open opens a page and returns its text. Where Chromium shows a warning in place of
// the page, it returns the name of the error.
func (b *browser) open(url string) (page, warning string) {
	b.t.Helper()
	// A person is asked which certificate to show; nobody is there to answer. That
	// any will do is what the policy AutoSelectCertificateForUrls says for a whole
	// machine, and a profile's settings for itself.
	settings, err := json.Marshal(map[string]any{"profile": map[string]any{"content_settings": map[string]any{"exceptions": map[string]any{
		"auto_select_certificate": map[string]any{url + ",*": map[string]any{"setting": map[string]any{"filters": []any{map[string]any{}}}}},
	}}}})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.profile, "Default", "Preferences"), settings, 0o600); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "chromium", "--headless",
		"--no-sandbox", // which root, and most containers, have to go without
		"--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-breakpad", "--disable-dev-shm-usage",
		"--host-resolver-rules=MAP other.test 127.0.0.1",
		"--user-data-dir="+b.profile, "--dump-dom", "--screenshot="+b.png, url+"/")
	cmd.Env = append(os.Environ(), "HOME="+b.home, "XDG_CONFIG_HOME="+b.home+"/.config", "XDG_CACHE_HOME="+b.home+"/.cache", "XDG_DATA_HOME="+b.home+"/.local/share")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its helpers end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what would still write to the home that is removed
	if m := netError.FindStringSubmatch(stderr.String()); m != nil {
		return strings.TrimSpace(stdout.String()), m[1]
	}
	if err != nil {
		b.t.Fatalf("chromium: %v\n%s", err, stderr.String())
	}
	return stdout.String(), ""
}

// wantPicture sees that something was drawn. go test -artifacts keeps the picture.
func (b *browser) wantPicture() {
	b.t.Helper()
	f, err := os.Open(b.png)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		b.t.Fatal(err)
	}
	dark := 0
	for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y++ {
		for x := picture.Bounds().Min.X; x < picture.Bounds().Max.X; x++ {
			if r, g, b, _ := picture.At(x, y).RGBA(); r+g+b < 3*0x4000 {
				dark++
			}
		}
	}
	if dark < 100 {
		b.t.Errorf("%s shows nothing: %d dark pixels", b.png, dark)
	}
}

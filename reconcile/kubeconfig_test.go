package reconcile_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
)

const kubeconfigSpec = `apiVersion: certsync/v1
issuers:
  root: {ca: {commonName: root, files: {certificate: ca.crt, privateKey: ca.key}}}
  middle: {ca: {issuer: root, commonName: middle, duration: 5y, files: {certificate: middle.crt, privateKey: middle.key}}}
  servers: {ca: {commonName: servers, duration: 8y, files: {certificate: servers.crt, privateKey: servers.key}}}
defaults: {issuer: middle, profile: client}
certificates:
  jane:
    commonName: jane
    kubeconfig: {path: jane.conf, server: "https://10.0.0.1:6443"}
  joe:
    commonName: joe
    kubeconfig: {path: joe.conf, server: "https://10.0.0.1:6443", ca: servers.crt}
  node:
    commonName: node
    files: {combined: node.pem}
    kubeconfig: {path: node.conf, server: "https://10.0.0.1:6443", embed: false}
`

func kubeconfigWorld(t *testing.T, text string) *world {
	w := newWorld(t, text)
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	return w
}

func (w *world) kubeconfig(name string) *pki.Kubeconfig {
	w.t.Helper()
	k, err := pki.ParseKubeconfig(w.read(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// wantKubeconfig checks what the kubeconfig of a user holds, against the files of
// the issuers.
func (w *world) wantKubeconfig(name, ca string) {
	w.t.Helper()
	k := w.kubeconfig(name)
	key, _, err := k.Users[0].Key()
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := k.Users[0].Chain()
	if err != nil {
		w.t.Fatal(err)
	}
	if !key.Matches(chain[0]) || len(chain) != 2 || !chain[1].Equal(w.cert("middle.crt")) ||
		chain[0].CheckSignatureFrom(chain[1]) != nil || len(k.Clusters[0].CA) != 1 || !k.Clusters[0].CA[0].Equal(w.cert(ca)) {
		w.t.Errorf("%s holds something else", name)
	}
}

// TestKubeconfigFollowsItsIssuers changes what stands above, and the CA of the
// server: one apply, and the kubeconfigs have it, without another certificate.
func TestKubeconfigFollowsItsIssuers(t *testing.T) {
	w := kubeconfigWorld(t, kubeconfigSpec)
	w.wantKubeconfig("jane.conf", "ca.crt")
	w.wantKubeconfig("joe.conf", "servers.crt")
	for _, c := range []struct{ old, new, repaired string }{
		{"commonName: middle, duration: 5y", "commonName: middle, duration: 6y", "jane joe node"}, // node.pem holds the chain
		{"commonName: servers, duration: 8y", "commonName: servers, duration: 7y", "joe"},
		{"commonName: root,", "commonName: root, duration: 9y,", "jane node"},
	} {
		jane, joe := w.kubeconfig("jane.conf"), w.kubeconfig("joe.conf")
		w.edit(c.old, c.new)
		p := w.plan(reconcile.Options{})
		for _, name := range []string{"jane", "joe", "node"} {
			want := reconcile.ActionNone
			if strings.Contains(c.repaired, name) {
				want = reconcile.ActionRepair
			}
			if it := item(t, p, "certificates."+name); it.Action != want {
				t.Errorf("%s: %s: %s", c.new, name, describe(p))
			}
		}
		w.applyOK(reconcile.Options{})
		w.wantEmpty()
		w.wantKubeconfig("jane.conf", "ca.crt")
		w.wantKubeconfig("joe.conf", "servers.crt")
		for name, before := range map[string]*pki.Kubeconfig{"jane.conf": jane, "joe.conf": joe} {
			had, _ := before.Users[0].Chain()
			if has, _ := w.kubeconfig(name).Users[0].Chain(); !has[0].Equal(had[0]) {
				t.Errorf("%s: %s has another certificate", c.new, name)
			}
		}
	}
	// A new key for the CA of the server concerns one of the three, even if another
	// part of the spec was asked for.
	p := w.plan(reconcile.Options{Names: []string{"issuers.servers"}, Replace: []string{"issuers.servers"}})
	if it := item(t, p, "certificates.joe"); it.Action != reconcile.ActionRepair || len(p.Items) != 2 {
		t.Error(describe(p))
	}
	w.applyOK(reconcile.Options{Replace: []string{"issuers.servers"}})
	w.wantEmpty()
	w.wantKubeconfig("joe.conf", "servers.crt")
}

// TestKubeconfigTakenApart gives key and certificate files of their own, and then
// takes these away again: nothing is issued for it.
func TestKubeconfigTakenApart(t *testing.T) {
	const line = `kubeconfig: {path: jane.conf, server: "https://10.0.0.1:6443"}`
	const apart = `files: {fullChain: jane.crt, privateKey: jane.key}
    kubeconfig: {path: jane.conf, server: "https://10.0.0.1:6443", embed: false}`
	w := kubeconfigWorld(t, kubeconfigSpec)
	issued := w.issued.Load()
	key, _, _ := w.kubeconfig("jane.conf").Users[0].Key()
	w.edit(line, apart)
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	w.wantPair("jane.crt", "jane.key")
	if !key.Matches(w.cert("jane.crt")) || w.kubeconfig("jane.conf").Users[0].HoldsKey() {
		t.Error("taken apart: another key, or it is still in the kubeconfig")
	}
	w.edit(apart, line)
	w.applyOK(reconcile.Options{Prune: true})
	w.wantEmpty()
	w.wantKubeconfig("jane.conf", "ca.crt")
	if again, _, _ := w.kubeconfig("jane.conf").Users[0].Key(); again.Fingerprint() != key.Fingerprint() || w.issued.Load() != issued {
		t.Error("put together: another key")
	}
	if _, err := os.Stat(w.path("jane.key")); err == nil {
		t.Error("jane.key is left")
	}
}

// TestReplaceLeavesTheUnchanged issues a certificate anew, and what does not change
// is not written: those who watch it have nothing to do.
func TestReplaceLeavesTheUnchanged(t *testing.T) {
	w := kubeconfigWorld(t, strings.Replace(kubeconfigSpec, "files: {combined: node.pem}", "files: {combined: node.pem, ca: node.ca, chain: node.chain}", 1))
	before := map[string]os.FileInfo{}
	for _, name := range []string{"node.conf", "node.ca", "node.chain", "node.pem"} {
		before[name], _ = os.Stat(w.path(name))
	}
	if err := os.Chmod(w.path("node.chain"), 0o640); err != nil {
		t.Fatal(err)
	}
	w.applyOK(reconcile.Options{Replace: []string{"certificates.node"}})
	w.wantEmpty()
	for name, want := range map[string]bool{"node.conf": true, "node.ca": true, "node.chain": false, "node.pem": false} {
		if now, err := os.Stat(w.path(name)); err != nil || os.SameFile(now, before[name]) != want {
			t.Errorf("%s is the same file: %t, want %t: %v", name, !want, want, err)
		}
	}
	// It is still certsync's.
	w.edit(", ca: node.ca, chain: node.chain", "")
	w.applyOK(reconcile.Options{Prune: true})
	w.wantEmpty()
	if _, err := os.Stat(w.path("node.chain")); err == nil {
		t.Error("node.chain is left")
	}
}

// TestKubeconfigInPlace makes a kubeconfig of files in PEM, at the same path, and
// the other way round.
func TestKubeconfigInPlace(t *testing.T) {
	const line, combined = `kubeconfig: {path: jane.conf, server: "https://10.0.0.1:6443"}`, `files: {combined: jane.conf}`
	w := kubeconfigWorld(t, kubeconfigSpec)
	issued := w.issued.Load()
	for _, c := range [][2]string{{line, combined}, {combined, line}} {
		w.edit(c[0], c[1])
		if it := item(t, w.plan(reconcile.Options{}), "certificates.jane"); it.Action != reconcile.ActionRepair {
			t.Errorf("%s: %s %+v", c[1], it.Action, it.Reasons)
		}
		w.applyOK(reconcile.Options{})
		w.wantEmpty()
	}
	w.wantKubeconfig("jane.conf", "ca.crt")
	if w.issued.Load() != issued {
		t.Error("something was issued")
	}
}

// TestKubeconfigServerCAByLink takes the CA of the server from links: of a mounted
// Secret, of a directory set of the spec, and to one.
func TestKubeconfigServerCAByLink(t *testing.T) {
	w := kubeconfigWorld(t, kubeconfigSpec)
	w.edit("ca: servers.crt", "ca: secret/ca.crt")
	w.remove("secret")
	if err := errors.Join(os.MkdirAll(w.path("secret/..1"), 0o755), os.Symlink("..1", w.path("secret/..data")),
		os.Symlink("..data/ca.crt", w.path("secret/ca.crt")), os.Symlink("set/ca.crt", w.path("link.crt"))); err != nil {
		t.Fatal(err)
	}
	w.write("secret/..1/ca.crt", string(w.read("middle.crt")))
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	w.wantKubeconfig("joe.conf", "middle.crt")

	w.edit("files: {combined: node.pem}", "directory: set")
	for _, ca := range []string{"set/ca.crt", "link.crt"} {
		w.edit("ca: secret/ca.crt", "ca: "+ca)
		for _, duration := range []string{"9y", "8y"} { // the directory is there only the second time
			w.applyOK(reconcile.Options{})
			w.wantEmpty()
			w.wantKubeconfig("joe.conf", "ca.crt")
			w.edit("commonName: root,", "commonName: root, duration: "+duration+",")
			if it := item(t, w.plan(reconcile.Options{}), "certificates.joe"); it.Action != reconcile.ActionRepair {
				t.Errorf("%s: %s %q", ca, it.Action, it.Error)
			}
			w.applyOK(reconcile.Options{})
			w.edit("commonName: root, duration: "+duration+",", "commonName: root,")
		}
		w.edit("ca: "+ca, "ca: secret/ca.crt")
	}
}

// TestKubeconfigAlone names one client: what it needs is issued with it, the CA of
// its server too.
func TestKubeconfigAlone(t *testing.T) {
	w := newWorld(t, kubeconfigSpec)
	w.applyOK(reconcile.Options{Names: []string{"joe"}})
	w.wantKubeconfig("joe.conf", "servers.crt")
	if _, err := os.Stat(w.path("jane.conf")); err == nil {
		t.Error("more was made than was asked for")
	}
}

// TestKubeconfigDrift edits kubeconfigs as people do. Nothing is ever issued for it.
func TestKubeconfigDrift(t *testing.T) {
	w := kubeconfigWorld(t, kubeconfigSpec)
	issued := w.issued.Load()
	for _, c := range []struct{ name, file, old, new, want string }{
		{"server", "jane.conf", "server: https://10.0.0.1:6443", "server: https://other", `has the server "https://other", want "https://10.0.0.1:6443"`},
		{"namespace", "jane.conf", "    user: jane", "    user: jane\n    namespace: dev", `has the namespace "dev", want none`},
		{"current context", "jane.conf", "current-context: jane@kubernetes", "", `has no current context, want "jane@kubernetes"`},
		{"user of the context", "jane.conf", "    user: jane", "    user: joe", `has the user of the context "joe", want "jane"`},
		{"no CA", "jane.conf", "certificate-authority-data: ", "certificate-authority-data: # ", "holds another trust anchor"},
		{"bad CA", "jane.conf", "certificate-authority-data: ", "certificate-authority-data: x", "a CA that cannot be read"},
		{"insecure", "jane.conf", "  name: kubernetes", "    insecure-skip-tls-verify: true\n  name: kubernetes", "holds more than is ours: insecure-skip-tls-verify"},
		{"another user", "jane.conf", "users:", "users:\n- {name: eve, user: {token: hunter2}}", `holds more than is ours: user "eve"`},
		{"another context", "jane.conf", "contexts:", "contexts:\n- {name: eve, context: {user: eve, cluster: c}}", `holds more than is ours: context "eve"`},
		{"another cluster", "jane.conf", "clusters:", "clusters:\n- {name: eve, cluster: {server: x}}", `holds more than is ours: cluster "eve"`},
		{"extensions", "jane.conf", "kind: Config", "kind: Config\nextensions: [{name: x}]", "holds more than is ours: extensions"},
		{"key file", "node.conf", "client-key: ", "client-key: /other #", `has the client key file "/other", want `},
		{"more than paths", "node.conf", "client-key: ", "client-key-data: eA==\n    client-key: ", "is malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := string(w.read(c.file))
			if !strings.Contains(before, c.old) {
				t.Fatalf("no %q in\n%s", c.old, before)
			}
			w.write(c.file, strings.Replace(before, c.old, c.new, 1))
			p := w.plan(reconcile.Options{})
			it := item(t, p, "certificates."+strings.TrimSuffix(c.file, ".conf"))
			if it.Action != reconcile.ActionRepair || !strings.Contains(it.Reasons[0].Message, c.want) || strings.Contains(it.Reasons[0].Message, "hunter2") {
				t.Errorf("%s %+v", it.Action, it.Reasons)
			}
			w.applyOK(reconcile.Options{})
			w.wantEmpty()
			if string(w.read(c.file)) != before {
				t.Error("is not what it was")
			}
		})
	}
	// What means the same is left alone.
	text := string(w.read("node.conf"))
	text = strings.ReplaceAll(text, w.dir+"/", "./")
	w.write("node.conf", strings.Replace(text, "kind: Config", "kind: \"Config\" # by hand\npreferences: {}", 1))
	w.wantEmpty()
	if got := w.issued.Load(); got != issued {
		t.Errorf("%d were issued", got-issued)
	}
}

// TestKubeconfigUnusable tries what may be wrong with the only copy of a key.
func TestKubeconfigUnusable(t *testing.T) {
	line := func(w *world, field, with string) string {
		text := string(w.read("jane.conf"))
		i := strings.Index(text, field+": ")
		rest := text[i:]
		return text[:i] + with + rest[strings.Index(rest, "\n"):]
	}
	const encrypted = "client-key-data: LS0tLS1CRUdJTiBFTkNSWVBURUQgUFJJVkFURSBLRVktLS0tLQpBQUFBCi0tLS0tRU5EIEVOQ1JZUFRFRCBQUklWQVRFIEtFWS0tLS0tCg=="
	for _, c := range []struct {
		name   string
		broken func(w *world) string
		code   reconcile.ReasonCode
		err    string
	}{
		{"garbage", func(*world) string { return "garbage" }, reconcile.Malformed, ""},
		{"empty", func(*world) string { return "" }, reconcile.Malformed, ""},
		{"cut off", func(w *world) string { return string(w.read("jane.conf")[:300]) }, reconcile.Malformed, ""},
		{"no users", func(*world) string { return "{kind: Config, users: []}" }, reconcile.Missing, ""},
		{"no key", func(w *world) string { return line(w, "client-key-data", "client-key: /x") }, reconcile.Missing, ""},
		{"no certificate", func(w *world) string { return line(w, "client-certificate-data", "client-certificate: /x") }, reconcile.Missing, ""},
		{"key cut off", func(w *world) string { return line(w, "client-key-data", "client-key-data: LS0tLS1CRUdJTg==") }, reconcile.Malformed, ""},
		{"key of joe", func(w *world) string {
			joe := string(w.read("joe.conf"))
			return line(w, "client-key-data", strings.TrimSpace(joe[strings.Index(joe, "client-key-data"):]))
		}, reconcile.KeyMismatch, ""},
		{"two documents", func(w *world) string { return string(w.read("jane.conf")) + "---\na: 1\n" }, "", "jane.conf: kubeconfig: YAML of more than one document is not read"},
		{"encrypted key", func(w *world) string { return line(w, "client-key-data", encrypted) }, "", "jane.conf: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := kubeconfigWorld(t, kubeconfigSpec)
			w.write("jane.conf", c.broken(w))
			it := item(t, w.plan(reconcile.Options{}), "certificates.jane")
			if c.err != "" {
				if it.Action != reconcile.ActionNone || !strings.Contains(it.Error, c.err) {
					t.Errorf("%s %q", it.Action, it.Error)
				}
				return
			}
			if !it.Action.Issues() || !it.Has(c.code) {
				t.Errorf("%s %+v", it.Action, it.Reasons)
			}
			w.applyOK(reconcile.Options{})
			w.wantEmpty()
			w.wantKubeconfig("jane.conf", "ca.crt")
		})
	}
}

// TestKubeconfigAdopted takes over what kubeadm could have left, without a record.
func TestKubeconfigAdopted(t *testing.T) {
	w := kubeconfigWorld(t, kubeconfigSpec)
	issued := w.issued.Load()
	w.remove("state")
	text := strings.Replace(string(w.read("jane.conf")), "kind: Config", "kind: Config\npreferences: {}", 1)
	w.write("jane.conf", text)
	w.wantEmpty()

	// A person's own credentials beside it are not ours to throw away.
	w.write("jane.conf", strings.Replace(text, "users:", "users:\n- {name: eve, user: {token: hunter2}}", 1))
	it := item(t, w.plan(reconcile.Options{}), "certificates.jane")
	if want := `jane.conf: it is not of certsync, and holds other credentials: user "eve"`; it.Action != reconcile.ActionNone || !strings.Contains(it.Error, want) {
		t.Errorf("%s %q %+v", it.Action, it.Error, it.Reasons)
	}

	// One that only might be read by others is left alone, too; garbage is not.
	for text, want := range map[string]reconcile.Action{"kind: Config\nclusters: [\nusers: x": reconcile.ActionNone, "garbage": reconcile.ActionReplace} {
		w.write("jane.conf", text)
		it := item(t, w.plan(reconcile.Options{}), "certificates.jane")
		if it.Action != want || want == reconcile.ActionNone && !strings.Contains(it.Error, "it is not of certsync, and cannot be read: malformed kubeconfig: not valid YAML in line ") {
			t.Errorf("%q: %s %q", text, it.Action, it.Error)
		}
	}

	// A key that is kept goes on to be the key.
	w.write("jane.conf", text)
	w.edit("    commonName: jane\n", "    commonName: jane\n    privateKey: {rotationPolicy: Never}\n")
	key, _, _ := w.kubeconfig("jane.conf").Users[0].Key()
	w.now = w.now.AddDate(0, 0, 80)
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	if again, _, _ := w.kubeconfig("jane.conf").Users[0].Key(); again.Fingerprint() != key.Fingerprint() || w.issued.Load() == issued {
		t.Error("not renewed with its key")
	}
	if bytes.Equal(w.read("jane.conf"), []byte(text)) {
		t.Error("not renewed")
	}
}

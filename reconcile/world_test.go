package reconcile_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/backends/localca"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// world is a directory with a spec, worked on by the real engine and the real
// backends at a time of the test's choosing.
type world struct {
	t   *testing.T
	dir string
	now time.Time
	// state is the state directory; the default is one in dir.
	state string
	// twist, if set, stands between the engine and the issuer.
	twist func(pki.Request, pki.Chain, error) (pki.Chain, error)
	// issued counts what issuers were asked for; self-signed CAs ask nobody.
	issued atomic.Int64
	// remote answers for remote issuers.
	remote       reconcile.Remote
	applyOptions reconcile.ApplyOptions
}

func newWorld(t *testing.T, specText string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)}
	w.write("certsync.yaml", specText)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w *world) remove(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if err := os.RemoveAll(w.path(name)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// edit replaces text in the spec.
func (w *world) edit(old, new string) {
	w.t.Helper()
	text := string(w.read("certsync.yaml"))
	if !strings.Contains(text, old) {
		w.t.Fatalf("the spec does not contain %q", old)
	}
	w.write("certsync.yaml", strings.Replace(text, old, new, 1))
}

func (w *world) spec() *spec.Spec {
	w.t.Helper()
	sp, err := spec.Load([]string{w.path("certsync.yaml")}, spec.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return sp
}

func (w *world) backends() reconcile.Backends {
	w.t.Helper()
	state := w.state
	if state == "" {
		state = w.path("state")
	}
	store, err := files.Open(state, files.WithClock(func() time.Time { return w.now }))
	if err != nil {
		w.t.Fatal(err)
	}
	return reconcile.Backends{
		Store:    store,
		Password: files.Secret,
		Input:    files.Input,
		OpenIssuer: func(ctx context.Context, i *spec.Issuer, ca *x509.Certificate) (reconcile.Issuer, error) {
			next, err := localca.Open(ctx, store, i.CA, ca, files.Secret)
			if err != nil {
				return nil, err
			}
			return scripted{w, next}, nil
		},
		OpenRemote: func(context.Context, *spec.Issuer) (reconcile.Remote, error) { return w.remote, nil },
		Anchors: func(_ context.Context, i *spec.Issuer) ([]*x509.Certificate, error) {
			data, err := os.ReadFile(i.Kubernetes.CA)
			if err != nil {
				return nil, err
			}
			return pki.ParseCertificates(data)
		},
	}
}

// scripted is an issuer whose answers the test may twist.
type scripted struct {
	w    *world
	next reconcile.Issuer
}

func (s scripted) Issue(ctx context.Context, r pki.Request) (pki.Chain, error) {
	s.w.issued.Add(1)
	chain, err := s.next.Issue(ctx, r)
	if s.w.twist != nil {
		return s.w.twist(r, chain, err)
	}
	return chain, err
}

func (w *world) plan(o reconcile.Options) *reconcile.Plan {
	w.t.Helper()
	p, _ := w.observe(o)
	return p
}

func (w *world) observe(o reconcile.Options) (*reconcile.Plan, *reconcile.State) {
	w.t.Helper()
	sp := w.spec()
	state, err := reconcile.Observe(context.Background(), sp, w.backends())
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := reconcile.Diff(sp, state, o, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return p, state
}

// apply does what the command does, and returns the results by path in the spec.
func (w *world) apply(o reconcile.Options) map[string]reconcile.Result {
	w.t.Helper()
	b := w.backends()
	store := b.Store.(*files.Store)
	release, err := store.Lock("test")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := release(); err != nil {
			w.t.Error(err)
		}
	}()
	if _, err := store.Recover(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	sp := w.spec()
	state, err := reconcile.Observe(context.Background(), sp, b)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := reconcile.Diff(sp, state, o, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	results := make(map[string]reconcile.Result)
	options := w.applyOptions
	options.Now = func() time.Time { return w.now }
	for _, r := range reconcile.Apply(context.Background(), sp, state, p, b, options) {
		results[r.ID().String()] = r
	}
	return results
}

// applyOK is an apply in which nothing may fail.
func (w *world) applyOK(o reconcile.Options) map[string]reconcile.Result {
	w.t.Helper()
	results := w.apply(o)
	for id, r := range results {
		if r.Err != nil {
			w.t.Fatalf("%s: %v", id, r.Err)
		}
	}
	return results
}

// wantEmpty fails the test unless there is nothing to do.
func (w *world) wantEmpty() {
	w.t.Helper()
	if p := w.plan(reconcile.Options{}); !p.Empty() || p.Counts.Failed > 0 {
		w.t.Fatalf("the plan is not empty: %s", describe(p))
	}
}

// item returns what a plan has to say of one certificate.
func item(t *testing.T, p *reconcile.Plan, id string) *reconcile.Item {
	t.Helper()
	for i := range p.Items {
		if p.Items[i].ID().String() == id {
			return &p.Items[i]
		}
	}
	t.Fatalf("the plan has no %s: %s", id, describe(p))
	return nil
}

// describe tells a plan in short: id=action(reasons) of all that changes.
func describe(p *reconcile.Plan) string {
	var parts []string
	for i := range p.Items {
		it := &p.Items[i]
		if it.Error != "" {
			parts = append(parts, it.ID().String()+"=error("+it.Error+")")
			continue
		}
		if it.Action == reconcile.ActionNone {
			continue
		}
		var codes []string
		for _, r := range it.Reasons {
			codes = append(codes, string(r.Code))
		}
		parts = append(parts, it.ID().String()+"="+string(it.Action)+"("+strings.Join(slices.Compact(codes), " ")+")")
	}
	return strings.Join(parts, " ")
}

func (w *world) cert(name string) *x509.Certificate {
	w.t.Helper()
	certs, err := pki.ParseCertificates(w.read(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return certs[0]
}

// wantPair fails the test unless key and certificate belong together.
func (w *world) wantPair(cert, key string) {
	w.t.Helper()
	k, _, err := pki.ParseKey(w.read(key), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if !k.Matches(w.cert(cert)) {
		w.t.Fatalf("%s is not the key of %s", key, cert)
	}
}

// snapshot tells content, mode, inode-independent mtime of everything below the
// directory but the state.
func (w *world) snapshot() map[string]string {
	w.t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "state" {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			found[path] = target
			return err
		}
		data, err := os.ReadFile(path)
		found[path] = info.Mode().String() + info.ModTime().String() + string(data)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// otherCA makes a CA of the given subject that no spec knows.
func otherCA(t *testing.T, rawSubject []byte, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), RawSubject: rawSubject,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(10000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if rawSubject == nil {
		template.Subject = pkix.Name{CommonName: "other"}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// resign returns chain with its leaf changed and signed again by the CA in w.
func (w *world) resign(chain pki.Chain, change func(*x509.Certificate)) (pki.Chain, error) {
	key, _, err := pki.ParseKey(w.read("ca.key"), nil)
	if err != nil {
		return nil, err
	}
	parent := w.cert("ca.crt")
	template := *chain[0]
	template.ExtraExtensions = nil
	change(&template)
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, template.PublicKey, key.Signer())
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return append(pki.Chain{leaf}, chain[1:]...), err
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func writeKey(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PRIVATE KEY", der)
}

// keyBytes returns the secret parts of every key below the directory but the
// state directory's archive, as they could turn up elsewhere.
func keyBytes(t *testing.T, data []byte) [][]byte {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil || !bytes.Contains([]byte(block.Type), []byte("PRIVATE KEY")) {
		t.Fatal("no private key")
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return append([][]byte{block.Bytes[len(block.Bytes)/4 : len(block.Bytes)/4+16]}, lines[1:len(lines)-1]...)
}

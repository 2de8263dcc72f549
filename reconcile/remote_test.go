package reconcile_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

const remoteSpec = `apiVersion: certsync/v1
issuers:
  far:
    kubernetes: {signerName: example.com/far, ca: far.crt}
certificates:
  jane:
    issuer: far
    commonName: jane
    profile: client
    duration: 24h
    files: {certificate: jane.crt, privateKey: jane.key, ca: jane-ca.crt}
`

// farWorld is a world with an issuer that takes its time, and that the test decides
// for.
type farWorld struct {
	*world
	mu    sync.Mutex
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
	known map[string]*farRequest
	sent  int   // requests that were made there
	asked int   // calls of any kind
	down  error // what every call gets
	wait  func(r *farRequest)
	// change has its way with what is signed.
	change func(*x509.Certificate)
}

// farRequest is a request where the issuer keeps it.
type farRequest struct {
	sent   reconcile.Sent
	answer reconcile.Answer
}

func newFarWorld(t *testing.T, text string) *farWorld {
	w := &farWorld{world: newWorld(t, text), known: map[string]*farRequest{}}
	w.ca, w.key = otherCA(t, nil, w.now)
	w.write("far.crt", string(pki.EncodeCertificates(w.ca)))
	w.remote = w
	return w
}

func (w *farWorld) Name(r pki.Request) string {
	sum := sha256.Sum256(r.CSR)
	return r.ID.Name + "-" + hex.EncodeToString(sum[:4])
}

func (w *farWorld) Submit(_ context.Context, s reconcile.Sent) (reconcile.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.down != nil {
		return reconcile.Answer{}, w.down
	}
	r := w.known[s.Name]
	if r == nil && s.UID == "" {
		w.sent++
		r = &farRequest{s, reconcile.Answer{State: reconcile.RequestPending, UID: fmt.Sprint("uid-", w.sent), Since: w.now}}
		w.known[s.Name] = r
	}
	if r == nil {
		return reconcile.Answer{State: reconcile.RequestAbsent}, nil
	}
	return r.answer, nil
}

func (w *farWorld) Lookup(_ context.Context, s reconcile.Sent) (reconcile.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.down != nil {
		return reconcile.Answer{}, w.down
	}
	if r := w.known[s.Name]; r != nil {
		return r.answer, nil
	}
	return reconcile.Answer{State: reconcile.RequestAbsent}, nil
}

func (w *farWorld) Wait(ctx context.Context, s reconcile.Sent) (reconcile.Answer, error) {
	w.mu.Lock()
	r := w.known[s.Name]
	w.mu.Unlock()
	if w.wait == nil {
		<-ctx.Done()
		return reconcile.Answer{}, ctx.Err()
	}
	w.wait(r)
	return w.Lookup(ctx, s)
}

func (w *farWorld) Withdraw(_ context.Context, s reconcile.Sent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.known[s.Name]; r != nil && r.answer.UID == s.UID {
		delete(w.known, s.Name)
	}
	return nil
}

func (w *farWorld) Approval(name string) string { return "approve " + name }

// only returns the one request that the issuer has.
func (w *farWorld) only() *farRequest {
	w.t.Helper()
	if len(w.known) != 1 {
		w.t.Fatalf("the issuer has %d requests", len(w.known))
	}
	for _, r := range w.known {
		return r
	}
	return nil
}

// sign issues what a request asks for.
func (w *farWorld) sign(r *farRequest) {
	w.t.Helper()
	csr, err := x509.ParseCertificateRequest(r.sent.Request.CSR)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), RawSubject: csr.RawSubject, DNSNames: csr.DNSNames,
		NotBefore: w.now.Add(-5 * time.Minute), NotAfter: w.now.Add(r.sent.Request.Duration),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	if w.change != nil {
		w.change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca, csr.PublicKey, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	r.answer.State, r.answer.Chain = reconcile.RequestIssued, pki.Chain{cert}
}

// wantPlan fails the test unless the plan comes to what is wanted (see describe).
func (w *farWorld) wantPlan(want string) {
	w.t.Helper()
	if have := describe(w.plan(reconcile.Options{})); have != want {
		w.t.Fatalf("the plan is %q, want %q", have, want)
	}
}

func (w *farWorld) wantPending() {
	w.t.Helper()
	for id, r := range w.apply(reconcile.Options{}) {
		if !errors.Is(r.Err, reconcile.ErrPending) {
			w.t.Fatalf("%s: %v, want it pending", id, r.Err)
		}
	}
}

// issue brings jane to where she has a certificate.
func (w *farWorld) issue() {
	w.t.Helper()
	w.wantPending()
	w.sign(w.only())
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
}

func TestRequestIsCollectedLater(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.wantPlan("certificates.jane=create(Missing)")
	if w.asked > 0 {
		t.Error("a plan without a pending request asks the issuer")
	}
	w.wantPending()
	for range 3 { // whoever comes again finds the same request
		w.wantPlan("certificates.jane=wait(Missing Pending)")
		w.wantPending()
	}
	if w.sent != 1 {
		t.Fatalf("%d requests were made", w.sent)
	}
	pending := filepath.Join(w.path("state"), "pending", "certificates", "jane.json")
	if info, err := os.Stat(pending); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the pending key: %v %v", info, err)
	}
	w.only().answer.State = reconcile.RequestApproved
	w.wantPlan("certificates.jane=wait(Missing Pending)")
	w.now = w.now.Add(10 * time.Hour)
	w.sign(w.only())
	w.wantPlan("certificates.jane=create(Missing Pending)")
	w.applyOK(reconcile.Options{})
	w.wantPair("jane.crt", "jane.key")
	if !bytes.Equal(w.read("jane-ca.crt"), w.read("far.crt")) {
		t.Error("the trust anchor is not the issuer's")
	}
	if _, err := os.Stat(pending); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pending request is still there: %v", err)
	}
	if len(w.known) > 0 || w.sent != 1 {
		t.Errorf("%d requests are left of %d", len(w.known), w.sent)
	}
	asked := w.asked
	w.wantEmpty()
	if w.asked != asked {
		t.Error("a plan in which nothing is pending asks the issuer")
	}
	if r := w.record("jane"); len(r.Altered) > 0 {
		t.Errorf("altered: %v", r.Altered)
	}
}

func (w *world) record(name string) *reconcile.Record {
	w.t.Helper()
	r, err := w.backends().Store.Record(context.Background(), spec.ID{Kind: spec.KindCertificate, Name: name})
	if err != nil || r == nil {
		w.t.Fatalf("record: %v %v", r, err)
	}
	return r
}

func TestRequestKeepsWhatWorks(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.issue()
	before := w.snapshot()
	w.now = w.now.Add(20 * time.Hour)
	w.wantPlan("certificates.jane=renew(RenewalDue)")
	w.wantPending()
	w.wantPlan("certificates.jane=wait(RenewalDue Pending)")
	w.wantPending()
	after := w.snapshot()
	for path, was := range before {
		if after[path] != was {
			t.Errorf("%s has changed while the renewal is pending", path)
		}
	}
	// What breaks meanwhile is repaired meanwhile.
	w.remove("jane-ca.crt")
	w.wantPlan("certificates.jane=repair(RenewalDue OutputDrift Pending)")
	w.applyOK(reconcile.Options{})
	w.wantPlan("certificates.jane=wait(RenewalDue Pending)")
	old := w.read("jane.key")
	w.sign(w.only())
	w.wantPlan("certificates.jane=renew(RenewalDue Pending)")
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	w.wantPair("jane.crt", "jane.key")
	if bytes.Equal(old, w.read("jane.key")) {
		t.Error("the key is the old one")
	}
	if w.sent != 2 {
		t.Errorf("%d requests", w.sent)
	}
}

func TestRequestIsRefused(t *testing.T) {
	for _, state := range []reconcile.RequestState{reconcile.RequestDenied, reconcile.RequestFailed} {
		t.Run(string(state), func(t *testing.T) {
			w := newFarWorld(t, remoteSpec)
			w.wantPending()
			r := w.only()
			r.answer.State, r.answer.Reason, r.answer.Message = state, "NoWay", "not for jane"
			p := w.plan(reconcile.Options{})
			it := item(t, p, "certificates.jane")
			code := map[reconcile.RequestState]reconcile.ReasonCode{reconcile.RequestDenied: reconcile.Denied, reconcile.RequestFailed: reconcile.Failed}[state]
			if !it.Has(code) || !strings.Contains(it.Error, "NoWay: not for jane") || it.Request.State != state {
				t.Fatalf("the item is %+v", it)
			}
			for range 3 {
				if err := w.apply(reconcile.Options{})["certificates.jane"].Err; !errors.Is(err, reconcile.ErrDenied) {
					t.Fatalf("apply: %v", err)
				}
				clear(w.known) // as a cluster forgets it
				w.now = w.now.Add(2 * time.Hour)
			}
			if w.sent != 1 {
				t.Fatalf("%d requests", w.sent)
			}
			// It is asked again when asked for, or when the request is another one.
			results := w.apply(reconcile.Options{Replace: []string{"jane"}})
			if err := results["certificates.jane"].Err; !errors.Is(err, reconcile.ErrPending) || w.sent != 2 {
				t.Fatalf("--replace: %v, %d requests", err, w.sent)
			}
			r = w.only()
			r.answer.State = state
			w.apply(reconcile.Options{})
			w.edit("commonName: jane", "commonName: janet")
			w.wantPending()
			if w.sent != 3 || len(w.known) != 1 {
				t.Fatalf("%d requests, %d left", w.sent, len(w.known))
			}
		})
	}
}

func TestRequestVanishes(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.wantPending()
	first := w.only().sent.Request.CSR
	clear(w.known)
	w.wantPlan("certificates.jane=wait(Missing Pending)") // not at once
	w.now = w.now.Add(2 * time.Minute)
	w.wantPlan("certificates.jane=create(Missing Pending)")
	w.wantPending()
	if !bytes.Equal(first, w.only().sent.Request.CSR) {
		t.Error("the request that is sent again is another one")
	}
	clear(w.known)
	w.now = w.now.Add(time.Hour)
	if it := item(t, w.plan(reconcile.Options{}), "certificates.jane"); !it.Has(reconcile.Failed) || !strings.Contains(it.Error, "2 times") {
		t.Fatalf("the item is %+v", it)
	}
	w.apply(reconcile.Options{})
	if w.sent != 2 {
		t.Fatalf("%d requests", w.sent)
	}
	w.apply(reconcile.Options{Replace: []string{"jane"}})
	w.sign(w.only())
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
}

func TestIssuerCannotBeReached(t *testing.T) {
	w := newFarWorld(t, strings.Replace(remoteSpec, "certificates:\n", `certificates:
  local:
    issuer: near
    commonName: local
    files: {combined: local.pem}
`, 1))
	w.edit("issuers:\n", "issuers:\n  near: {ca: {commonName: near, files: {combined: near.pem}}}\n")
	w.down = errors.New("no route")
	results := w.apply(reconcile.Options{})
	if err := results["certificates.jane"].Err; err == nil || errors.Is(err, reconcile.ErrPending) || !strings.Contains(err.Error(), "no route") {
		t.Errorf("jane: %v", err)
	}
	if err := results["certificates.local"].Err; err != nil {
		t.Errorf("what needs no remote issuer: %v", err)
	}
	// The request was made, and is the one that is sent in the end.
	it := item(t, w.plan(reconcile.Options{}), "certificates.jane")
	if !strings.Contains(it.Error, "no route") {
		t.Errorf("the item is %+v", it)
	}
	name := it.Request.Name
	w.down = nil
	w.wantPlan("certificates.jane=create(Missing Pending)")
	w.apply(reconcile.Options{})
	if have := w.only().sent.Name; have != name || w.sent != 1 {
		t.Errorf("sent %s, of %d, want %s", have, w.sent, name)
	}
	w.sign(w.only())
	w.applyOK(reconcile.Options{})
	w.down = errors.New("no route")
	w.wantEmpty() // nobody has to be asked
}

func TestSpecChangesWhileItWaits(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.issue()
	w.edit("commonName: jane", "commonName: janet")
	w.wantPending()
	w.wantPlan("certificates.jane=wait(SpecChanged Pending)")
	// Changed once more: the first request answers nothing any more.
	w.edit("commonName: janet", "commonName: joan")
	w.wantPlan("certificates.jane=replace(SpecChanged)")
	w.wantPending()
	if len(w.known) != 1 {
		t.Fatalf("%d requests are left", len(w.known))
	}
	// Changed back: none is needed.
	w.edit("commonName: joan", "commonName: jane")
	w.wantEmpty()
	w.applyOK(reconcile.Options{})
	if len(w.known) != 0 {
		t.Error("a request that nobody needs is not withdrawn")
	}
	if ids, err := w.backends().Store.(*files.Store).ListPending(context.Background()); err != nil || len(ids) > 0 {
		t.Errorf("pending: %v %v", ids, err)
	}
	// Another kind of issuer signs: whoever approves is not asked for nothing.
	w.edit("commonName: jane", "commonName: joan")
	w.wantPending()
	w.edit("issuers:\n", "issuers:\n  near: {ca: {commonName: near, files: {combined: near.pem}}}\n")
	w.edit("issuer: far", "issuer: near")
	w.applyOK(reconcile.Options{})
	if len(w.known) != 0 {
		t.Error("a request whose certificate is signed by another issuer is not withdrawn")
	}
	w.wantEmpty()
}

// What the spec has no more is neither waited for nor kept, once it is pruned.
func TestRequestIsPruned(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.wantPending()
	w.edit("  jane:\n", "  joe:\n")
	w.edit("jane.crt, privateKey: jane.key, ca: jane-ca.crt", "joe.crt, privateKey: joe.key")
	w.wantPlan("certificates.joe=create(Missing)")
	if p := w.plan(reconcile.Options{Prune: true}); describe(p) != "certificates.joe=create(Missing) certificates.jane=prune(Orphaned)" {
		t.Fatalf("the plan is %q", describe(p))
	}
	for id, r := range w.apply(reconcile.Options{Prune: true}) { // joe waits, and so does what may be in use
		if !errors.Is(r.Err, reconcile.ErrPending) {
			t.Errorf("%s: %v", id, r.Err)
		}
	}
	w.sign(w.known["joe-"+strings.TrimPrefix(item(t, w.plan(reconcile.Options{}), "certificates.joe").Request.Name, "joe-")])
	w.applyOK(reconcile.Options{Prune: true})
	w.wantEmpty()
	if ids, err := w.backends().Store.(*files.Store).ListPending(context.Background()); err != nil || len(ids) > 0 || len(w.known) > 0 {
		t.Errorf("left: %v %v, and %d where they were sent", ids, err, len(w.known))
	}
}

// A certificate that was asked for with --replace stays asked for.
func TestReplacementIsRemembered(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.issue()
	old := w.read("jane.crt")
	w.apply(reconcile.Options{Replace: []string{"jane"}})
	w.wantPlan("certificates.jane=wait(Pending)")
	w.wantPending()
	w.sign(w.only())
	w.wantPlan("certificates.jane=replace(Pending)")
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	if bytes.Equal(old, w.read("jane.crt")) || w.sent != 2 {
		t.Errorf("not replaced, with %d requests", w.sent)
	}
}

func TestKeyIsKept(t *testing.T) {
	w := newFarWorld(t, strings.Replace(remoteSpec, "    duration: 24h\n", "    duration: 24h\n    privateKey: {rotationPolicy: Never}\n", 1))
	w.issue()
	key := w.read("jane.key")
	w.now = w.now.Add(20 * time.Hour)
	w.wantPending()
	if data := w.read("state/pending/certificates/jane.json"); bytes.Contains(data, []byte("PRIVATE")) {
		t.Error("a key that is kept is copied")
	}
	w.sign(w.only())
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	if !bytes.Equal(key, w.read("jane.key")) {
		t.Error("the key is another one")
	}
	// If the key changes meanwhile, the request is for nobody's key.
	w.now = w.now.Add(20 * time.Hour)
	w.wantPending()
	w.sign(w.only())
	w.remove("jane.key")
	w.wantPlan("certificates.jane=replace(Missing)")
}

// Whatever the issuer makes of the lifetime and the names: one issuance.
func TestRemoteIssuerAlters(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"clamps":    func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(65 * time.Minute) },
		"backdates": func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(-100 * time.Hour) },
		"names":     func(c *x509.Certificate) { c.DNSNames = []string{"extra.example.com"} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newFarWorld(t, remoteSpec)
			w.change = change
			w.wantPending()
			w.sign(w.only())
			r := w.applyOK(reconcile.Options{})["certificates.jane"]
			if name != "backdates" && len(r.Altered) != 1 {
				t.Errorf("altered: %v", r.Altered)
			}
			w.wantEmpty()
			w.now = w.now.Add(20 * time.Minute)
			w.wantEmpty()
		})
	}
}

func TestAnswerIsNotAcceptable(t *testing.T) {
	for name, spoil := range map[string]func(w *farWorld, r *farRequest){
		"another key": func(w *farWorld, r *farRequest) {
			key, _ := pki.GenerateKey(spec.ECDSA, 256)
			der, err := x509.CreateCertificate(rand.Reader, r.answer.Chain[0], w.ca, key.Public(), w.key)
			if err != nil {
				w.t.Fatal(err)
			}
			r.answer.Chain[0], _ = x509.ParseCertificate(der)
		},
		"another CA": func(w *farWorld, r *farRequest) {
			ca, key := otherCA(w.t, nil, w.now)
			der, err := x509.CreateCertificate(rand.Reader, r.answer.Chain[0], ca, r.answer.Chain[0].PublicKey, key)
			if err != nil {
				w.t.Fatal(err)
			}
			r.answer.Chain[0], _ = x509.ParseCertificate(der)
		},
		"expired": func(w *farWorld, _ *farRequest) {
			w.change = func(c *x509.Certificate) { c.NotAfter = w.now.Add(time.Hour) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFarWorld(t, remoteSpec)
			w.issue()
			before := w.snapshot()
			w.now = w.now.Add(20 * time.Hour)
			w.wantPending()
			if name == "expired" {
				spoil(w, w.only())
				w.sign(w.only())
				w.now = w.now.Add(2 * time.Hour)
				// Nobody fetched it in time. It is asked for anew, with a new key.
				w.wantPlan("certificates.jane=renew(RenewalDue)")
				w.wantPending()
				if w.sent != 3 {
					t.Errorf("%d requests", w.sent)
				}
				return
			}
			w.sign(w.only())
			spoil(w, w.only())
			for range 3 {
				if err := w.apply(reconcile.Options{})["certificates.jane"].Err; err == nil || !strings.Contains(err.Error(), "not acceptable") {
					t.Fatalf("apply: %v", err)
				}
			}
			if w.sent != 2 {
				t.Errorf("%d requests", w.sent)
			}
			for path, was := range before {
				if w.snapshot()[path] != was {
					t.Errorf("%s has changed", path)
				}
			}
		})
	}
}

func TestOtherSigner(t *testing.T) {
	w := newFarWorld(t, strings.Replace(remoteSpec, ", ca: jane-ca.crt", "", 1))
	w.edit(", ca: far.crt", "")
	w.issue()
	w.edit("example.com/far", "example.com/further")
	w.wantPlan("certificates.jane=replace(IssuerChanged)")
	w.edit("example.com/further", "example.com/far")
	w.wantEmpty()
	// The anchor tells, where there is one.
	w.edit("example.com/far", "example.com/far, ca: other.crt")
	other, _ := otherCA(t, nil, w.now)
	w.write("other.crt", string(pki.EncodeCertificates(other)))
	w.wantPlan("certificates.jane=replace(IssuerChanged)")
	w.write("other.crt", string(pki.EncodeCertificates(other, w.ca)))
	w.wantEmpty()
	// From one kind of issuer to the other, and back.
	w.edit("issuers:\n", "issuers:\n  near: {ca: {commonName: near, files: {combined: near.pem}}}\n")
	w.edit("issuer: far", "issuer: near")
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	w.edit("issuer: near", "issuer: far")
	w.wantPlan("certificates.jane=replace(IssuerChanged)")
}

func TestWaitForAnswer(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.wait = func(r *farRequest) {
		if r != nil {
			w.sign(r)
		}
	}
	w.applyOptions.Wait = true
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	// Time runs out: it is there for a later run.
	w.now = w.now.Add(20 * time.Hour)
	w.wait, w.applyOptions.WaitFor = nil, time.Millisecond
	w.wantPending()
	w.sign(w.only())
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
}

// A saved plan is stale as soon as the request comes to something else.
func TestSavedPlanAndRequests(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.wantPending()
	p, state := w.observe(reconcile.Options{})
	p.Seal(w.spec(), state)
	_, state = w.observe(reconcile.Options{})
	if _, err := reconcile.Recheck(p, w.spec(), state); err != nil {
		t.Fatal(err)
	}
	w.sign(w.only())
	_, state = w.observe(reconcile.Options{})
	if _, err := reconcile.Recheck(p, w.spec(), state); !errors.Is(err, reconcile.ErrStale) {
		t.Errorf("a plan to wait for what is issued: %v", err)
	}
}

// Garbage in the place of a request is set aside: what works goes on to work.
func TestPendingGarbage(t *testing.T) {
	w := newFarWorld(t, remoteSpec)
	w.issue()
	w.now = w.now.Add(20 * time.Hour)
	for _, garbage := range []string{"", "{", "null", "[]", `{"formatVersion": 1, "kind": "certificates", "name": "joe"}`} {
		w.write("state/pending/certificates/jane.json", garbage)
		w.wantPlan("certificates.jane=renew(RenewalDue)")
		w.wantPending()
		w.wantPlan("certificates.jane=wait(RenewalDue Pending)")
	}
	w.write("state/pending/certificates/jane.json", `{"formatVersion": 99}`)
	if it := item(t, w.plan(reconcile.Options{}), "certificates.jane"); !strings.Contains(it.Error, "newer version") {
		t.Errorf("the item is %+v", it)
	}
}

// An alteration that the record tells of is the issuer's; the chain that came with
// the certificate is written again where it is missing.
func TestIntermediatesAreRemembered(t *testing.T) {
	w := newFarWorld(t, strings.Replace(remoteSpec, "ca: jane-ca.crt", "ca: jane-ca.crt, chain: jane-chain.crt, fullChain: jane-full.crt", 1))
	root := w.ca
	subKey, err := ecdsa.GenerateKey(w.key.Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := *root
	template.SerialNumber, template.RawSubject, template.Subject.CommonName = big.NewInt(8), nil, "intermediate"
	der, err := x509.CreateCertificate(rand.Reader, &template, root, subKey.Public(), w.key)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w.ca, w.key = sub, subKey
	w.wantPending()
	w.sign(w.only())
	r := w.only()
	r.answer.Chain = append(r.answer.Chain, sub, root) // some send their root along
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	if !bytes.Equal(w.read("jane-chain.crt"), pki.EncodeCertificates(sub)) {
		t.Error("the chain is not the intermediate")
	}
	full := w.read("jane-full.crt")
	w.remove("jane-chain.crt", "jane-full.crt", "jane-ca.crt")
	w.wantPlan("certificates.jane=repair(OutputDrift)")
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	if !bytes.Equal(full, w.read("jane-full.crt")) {
		t.Error("the full chain is another one")
	}
	// Without the record it is read back.
	w.remove("state", "jane-chain.crt")
	w.wantPlan("certificates.jane=repair(OutputDrift)")
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
}

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/backends/files/filestest"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Requests to an issuer that answers later, on a disk that fails, or a machine that
// stops, at each single operation: there is never a second request, the key to an
// answer is never lost, and what is in use stays.

const remoteFaultSpec = `apiVersion: certsync/v1
issuers:
  far: {kubernetes: {signerName: example.com/far}}
certificates:
  plain:
    issuer: far
    dnsNames: [www.example.com]
    files: {certificate: /tls/plain.crt, privateKey: /tls/plain.key}
`

// far is an issuer that signs when it is told to.
type far struct {
	mu     sync.Mutex
	now    time.Time
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
	known  map[string]*farRequest
	sent   int
	signed bool // whatever comes is signed at once
}

type farRequest struct {
	s reconcile.Sent
	a reconcile.Answer
}

func newFar(t *testing.T, now time.Time) *far {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "far"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(100000 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &far{now: now, ca: ca, key: key, known: map[string]*farRequest{}}
}

func (f *far) Name(r pki.Request) string {
	sum := sha256.Sum256(r.CSR)
	return hex.EncodeToString(sum[:8])
}

func (f *far) Submit(ctx context.Context, s reconcile.Sent) (reconcile.Answer, error) {
	f.mu.Lock()
	if f.known[s.Name] == nil && s.UID == "" {
		f.sent++
		f.known[s.Name] = &farRequest{s, reconcile.Answer{State: reconcile.RequestPending, UID: fmt.Sprint(f.sent)}}
	}
	f.mu.Unlock()
	return f.Lookup(ctx, s)
}

func (f *far) Lookup(_ context.Context, s reconcile.Sent) (reconcile.Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.known[s.Name]
	switch {
	case r == nil:
		return reconcile.Answer{State: reconcile.RequestAbsent}, nil
	case f.signed && r.a.State == reconcile.RequestPending:
		q := r.s.Request
		q.Now = f.now
		cert, err := pki.Sign(q, f.ca, f.key)
		if err != nil {
			return reconcile.Answer{}, err
		}
		r.a.State, r.a.Chain = reconcile.RequestIssued, pki.Chain{cert}
	}
	return r.a, nil
}

func (f *far) Wait(ctx context.Context, _ reconcile.Sent) (reconcile.Answer, error) {
	return reconcile.Answer{}, ctx.Err()
}

func (f *far) Withdraw(_ context.Context, s reconcile.Sent) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.known, s.Name)
	return nil
}

func (f *far) Approval(name string) string { return "approve " + name }

// remoteFault is one run after which everything has to be as promised.
type remoteFault struct {
	*faulty
	far *far
	sp  *spec.Spec
}

// run does what apply does. A request that waits is no error.
func (a *remoteFault) run(disk files.FS) (err error) {
	ctx := context.Background()
	store, b, err := a.open(disk)
	if err != nil {
		return err
	}
	b.OpenRemote = func(context.Context, *spec.Issuer) (reconcile.Remote, error) { return a.far, nil }
	release, err := store.Lock("certsync apply")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if _, err := store.Recover(ctx); err != nil {
		return err
	}
	state, err := reconcile.Observe(ctx, a.sp, b)
	if err != nil {
		return err
	}
	p, err := reconcile.Diff(a.sp, state, reconcile.Options{}, a.now)
	if err != nil {
		return err
	}
	if p.Counts.Failed > 0 {
		return errors.New(p.Items[0].Error)
	}
	for _, r := range reconcile.Apply(ctx, a.sp, state, p, b, reconcile.ApplyOptions{Now: func() time.Time { return a.now }}) {
		if r.Err != nil && !errors.Is(r.Err, reconcile.ErrPending) {
			err = errors.Join(err, r.Err)
		}
	}
	return err
}

func TestRemoteFaults(t *testing.T) {
	faults := map[string]struct {
		fault error // nil: the machine stops
		keep  filestest.Keep
	}{
		"full disk": {fault: syscall.ENOSPC},
		"denied":    {fault: syscall.EACCES},
		"killed":    {keep: filestest.KeepAll},
		"power cut": {keep: filestest.KeepNone},
		"torn":      {keep: filestest.KeepSome},
	}
	// In which run the fault is: the one that asks, one that waits, one that fetches.
	for _, during := range []string{"asking", "waiting", "fetching", "renewing"} {
		for name, f := range faults {
			t.Run(during+"/"+name, func(t *testing.T) {
				loaded := &faulty{dir: t.TempDir(), specs: map[string]*spec.Spec{}}
				for n := 1; ; n += stride() {
					if n > maxOperations {
						t.Fatal("the fault is never out of reach")
					}
					if !testRemoteFault(t, loaded, during, f.fault, f.keep, n) {
						break
					}
				}
			})
		}
	}
}

// testRemoteFault has operation n of one run fail, and tells whether there was one.
func testRemoteFault(t *testing.T, loaded *faulty, during string, fault error, keep filestest.Keep, n int) bool {
	t.Helper()
	loaded.now = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	a := &remoteFault{faulty: loaded, far: newFar(t, loaded.now), sp: loaded.load(t, remoteFaultSpec, nil)}
	m := filestest.NewMem()
	must := func(m *filestest.Mem) {
		t.Helper()
		if err := a.run(m); err != nil {
			t.Fatal(err)
		}
	}
	want := 1
	switch during {
	case "waiting":
		must(m)
	case "fetching":
		must(m)
		a.far.signed = true
	case "renewing":
		a.far.signed = true
		must(m)
		must(m)
		want = 2
		a.now = a.now.Add(80 * 24 * time.Hour)
		a.far.now = a.now
	}
	var fired bool
	after := m
	if fault != nil {
		inject := filestest.Inject(m, n, fault)
		_ = a.run(inject) // some errors it lives with
		fired = inject.Fired()
	} else {
		crash := filestest.CrashAt(m, n)
		_ = a.run(crash)
		if fired = crash.Fired(); fired {
			after = m.Crash(keep, uint64(n))
		}
	}
	if !fired {
		if n < 10 {
			t.Fatalf("only %d operations", n)
		}
		return false
	}
	sp := a.sp.Certificates[0]
	if there := a.pair(t, after, sp.Outputs[0], sp.Outputs[1]); !there && during == "renewing" {
		t.Fatal("the certificate is gone")
	}
	a.far.signed = true
	must(after)
	must(after)
	if !a.pair(t, after, sp.Outputs[0], sp.Outputs[1]) {
		t.Fatalf("operation %d: there is no certificate", n)
	}
	if a.far.sent != want {
		t.Fatalf("operation %d: %d requests were sent, want %d", n, a.far.sent, want)
	}
	if p := a.plan(t, after, a.sp); !p.Empty() || p.Counts.Failed > 0 {
		t.Fatalf("operation %d: the plan is %+v", n, p.Counts)
	}
	for name := range after.Files() {
		if strings.Contains(name, ".certsync-") || strings.HasPrefix(name, "/state/pending/") && strings.HasSuffix(name, ".json") {
			t.Fatalf("operation %d: %s is left over", n, name)
		}
	}
	return true
}

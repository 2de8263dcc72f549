package reconcile_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Failures that other tools shipped. Each test says what went wrong elsewhere.

// Wanted was not what was issued, so it was issued again for ever.
func TestIssuerThatAlters(t *testing.T) {
	tests := map[string]func(*x509.Certificate){
		"adds a name":  func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "extra.example.com") },
		"drops a name": func(c *x509.Certificate) { c.DNSNames = c.DNSNames[:1] },
		"adds an IP":   func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} },
		"subject": func(c *x509.Certificate) {
			c.RawSubject, c.Subject = nil, pkix.Name{CommonName: "issuer's choice", Organization: []string{"Issuer Ltd"}}
		},
		"usages":    func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		"clamped":   func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(40 * 24 * time.Hour) },
		"prolonged": func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(200 * 24 * time.Hour) },
		"several": func(c *x509.Certificate) {
			c.DNSNames = []string{"x.example.com"}
			c.KeyUsage = x509.KeyUsageKeyAgreement
		},
		"unknown field": func(c *x509.Certificate) {
			c.RawSubject, c.Subject = nil, pkix.Name{CommonName: "www", ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 12}, Value: "title"}}}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, strings.Replace(simple, "[www.example.com]", "[www.example.com, api.example.com]", 1))
			w.twist = func(_ pki.Request, chain pki.Chain, err error) (pki.Chain, error) {
				if err != nil {
					return nil, err
				}
				return w.resign(chain, change)
			}
			r := w.applyOK(reconcile.Options{})["certificates.web"]
			if len(r.Altered) == 0 {
				t.Error("that the issuer altered something is not told")
			}
			for range 5 {
				w.wantEmpty()
				w.applyOK(reconcile.Options{})
				w.now = w.now.Add(time.Hour)
			}
			if n := w.issued.Load(); n != 1 {
				t.Errorf("issued %d times", n)
			}
			// Another wish is another matter.
			w.edit("[www.example.com, api.example.com]", "[www.example.com, api.example.com, new.example.com]")
			if it := item(t, w.plan(reconcile.Options{}), "certificates.web"); it.Action != reconcile.ActionReplace {
				t.Errorf("a change of the spec plans %s", it.Action)
			}
		})
	}
	t.Run("reorders names", func(t *testing.T) {
		w := newWorld(t, strings.Replace(simple, "[www.example.com]", "[www.example.com, api.example.com]", 1))
		w.twist = func(_ pki.Request, chain pki.Chain, err error) (pki.Chain, error) {
			return w.resign(chain, func(c *x509.Certificate) { slices.Reverse(c.DNSNames) })
		}
		if r := w.applyOK(reconcile.Options{})["certificates.web"]; len(r.Altered) > 0 {
			t.Errorf("an order is told as altered: %v", r.Altered)
		}
		w.wantEmpty()
	})
}

// The issuer clamped the lifetime, or backdated, and each renewal was due at once.
func TestClampedLifetimeDoesNotLoop(t *testing.T) {
	for _, clamp := range []time.Duration{5 * time.Minute, time.Hour, 720 * time.Hour} {
		for _, backdate := range []time.Duration{0, 5 * time.Minute, 24 * time.Hour} {
			t.Run(fmt.Sprint(clamp, backdate), func(t *testing.T) {
				w := newWorld(t, strings.Replace(simple, "duration: 90d", "duration: 90d\n    renewBefore: 60d", 1))
				w.twist = func(r pki.Request, chain pki.Chain, err error) (pki.Chain, error) {
					if err != nil {
						return nil, err
					}
					return w.resign(chain, func(c *x509.Certificate) {
						c.NotBefore, c.NotAfter = r.Now.Add(-backdate), r.Now.Add(clamp)
					})
				}
				w.applyOK(reconcile.Options{})
				for i := range 10 {
					w.wantEmpty()
					it := item(t, w.plan(reconcile.Options{}), "certificates.web")
					wait := it.RenewAt.Sub(w.now)
					if wait < clamp/3 {
						t.Fatalf("renewal %d is due after %s of %s", i, wait, clamp)
					}
					w.now = it.RenewAt
					if got := describe(w.plan(reconcile.Options{})); got != "certificates.web=renew(RenewalDue)" {
						t.Fatalf("at the time of renewal the plan is %q", got)
					}
					w.applyOK(reconcile.Options{})
				}
				if n := w.issued.Load(); n != 11 {
					t.Errorf("issued %d times, want 11", n)
				}
			})
		}
	}
}

// The issuer answered with something unusable, which replaced what worked.
func TestUnacceptableAnswers(t *testing.T) {
	tests := map[string]struct {
		twist func(w *world, r pki.Request, chain pki.Chain) (pki.Chain, error)
		want  string
	}{
		"expired": {want: "expired", twist: func(w *world, r pki.Request, chain pki.Chain) (pki.Chain, error) {
			return w.resign(chain, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = r.Now.Add(-2*time.Hour), r.Now.Add(-time.Hour)
			})
		}},
		"another key": {want: "another key", twist: func(w *world, _ pki.Request, chain pki.Chain) (pki.Chain, error) {
			_, key := otherCA(w.t, nil, w.now)
			return w.resign(chain, func(c *x509.Certificate) { c.PublicKey = key.Public() })
		}},
		"another issuer": {want: "signed by", twist: func(w *world, _ pki.Request, chain pki.Chain) (pki.Chain, error) {
			ca, key := otherCA(w.t, w.cert("ca.crt").RawSubject, w.now)
			template := *chain[0]
			template.AuthorityKeyId = nil
			der, err := x509.CreateCertificate(rand.Reader, &template, ca, template.PublicKey, key)
			if err != nil {
				return nil, err
			}
			leaf, err := x509.ParseCertificate(der)
			return pki.Chain{leaf}, err
		}},
		"future": {want: "not valid before", twist: func(w *world, r pki.Request, chain pki.Chain) (pki.Chain, error) {
			return w.resign(chain, func(c *x509.Certificate) { c.NotBefore = r.Now.Add(time.Hour) })
		}},
		"a CA": {want: "CA", twist: func(w *world, _ pki.Request, chain pki.Chain) (pki.Chain, error) {
			return w.resign(chain, func(c *x509.Certificate) {
				c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
			})
		}},
		"nothing": {want: "without a certificate", twist: func(*world, pki.Request, pki.Chain) (pki.Chain, error) { return nil, nil }},
		"error": {want: "out of order", twist: func(*world, pki.Request, pki.Chain) (pki.Chain, error) {
			return nil, fmt.Errorf("the HSM is out of order")
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simple)
			w.applyOK(reconcile.Options{})
			w.now = w.now.Add(70 * 24 * time.Hour)
			before := w.snapshot()
			w.twist = func(r pki.Request, chain pki.Chain, err error) (pki.Chain, error) {
				if err != nil {
					return nil, err
				}
				return test.twist(w, r, chain)
			}
			r := w.apply(reconcile.Options{})["certificates.web"]
			if r.Err == nil || !strings.Contains(r.Err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", r.Err, test.want)
			}
			if after := w.snapshot(); !maps.Equal(before, after) {
				t.Error("files were touched")
			}
			w.twist = nil
			w.applyOK(reconcile.Options{})
			w.wantEmpty()
		})
	}
}

// The names matched, so a CA with another key went unnoticed.
func TestCAKeySwappedUnderTheSameName(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	ca, key := otherCA(t, w.cert("ca.crt").RawSubject, w.now)
	w.write("ca.crt", pemOf("CERTIFICATE", ca.Raw))
	w.write("ca.key", writeKey(t, key))
	it := item(t, w.plan(reconcile.Options{}), "certificates.web")
	if it.Action != reconcile.ActionReplace || !it.Has(reconcile.IssuerChanged) {
		t.Errorf("got %s %v", it.Action, it.Reasons)
	}
}

// Leaves outlived their CA; an expired CA went on signing; an absent key led to
// a new root that nobody had asked for.
func TestLeafIsCappedByItsCA(t *testing.T) {
	w := newWorld(t, strings.Replace(simple, "duration: 1000d", "duration: 50d\n      renewBefore: 1h", 1))
	r := w.applyOK(reconcile.Options{})["certificates.web"]
	if !w.cert("web.crt").NotAfter.Equal(w.cert("ca.crt").NotAfter) {
		t.Error("the leaf outlives its CA")
	}
	if len(r.Warnings) == 0 {
		t.Error("there is no warning")
	}
	w.wantEmpty()
	// Due, but nothing is gained by renewing: a warning, not a loop.
	w.now = w.now.Add(45 * 24 * time.Hour)
	w.wantEmpty()
	it := item(t, w.plan(reconcile.Options{}), "certificates.web")
	if len(it.Warnings) == 0 {
		t.Error("that the CA ends first is not told")
	}
	w.applyOK(reconcile.Options{})
	if n := w.issued.Load(); n != 1 {
		t.Errorf("issued %d times", n)
	}
}

func TestExpiredCADoesNotSign(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	w.now = w.now.Add(1001 * 24 * time.Hour)
	w.remove("web.crt", "web.key")
	// Renewed in the same plan it may sign; left out of it, it may not.
	if got := describe(w.plan(reconcile.Options{})); got != "issuers.ca=renew(Expired) certificates.web=create(Missing)" {
		t.Errorf("got %s", got)
	}
	if got := describe(w.plan(reconcile.Options{Names: []string{"web"}})); got != "issuers.ca=renew(Expired) certificates.web=create(Missing)" {
		t.Errorf("got %s", got)
	}
}

func TestAbsentCAKeyIsAnError(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	before := w.read("ca.crt")
	w.remove("ca.key", "web.crt", "web.key")
	results := w.apply(reconcile.Options{})
	for _, id := range []string{"issuers.ca", "certificates.web"} {
		if results[id].Err == nil {
			t.Errorf("%s: no error", id)
		}
	}
	if !bytes.Equal(before, w.read("ca.crt")) {
		t.Error("the CA's certificate was replaced")
	}
	// To give up the CA is possible, but has to be said.
	w.applyOK(reconcile.Options{Replace: []string{"issuers.ca"}})
	w.wantEmpty()
}

// A restart meant that everything was issued again.
func TestRestartsIssueNothing(t *testing.T) {
	w := newWorld(t, deep)
	w.applyOK(reconcile.Options{})
	issued, before := w.issued.Load(), w.snapshot()
	for range 100 {
		w.applyOK(reconcile.Options{})
	}
	if w.issued.Load() != issued {
		t.Error("something was issued")
	}
	if !maps.Equal(before, w.snapshot()) {
		t.Error("something was touched")
	}
}

// Clocks jump. Back: what is not valid yet is no reason to issue. Forth: what
// expired is renewed, and the way back is calm again.
func TestClockJumps(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	start := w.now
	w.now = start.Add(-365 * 24 * time.Hour)
	w.wantEmpty()
	if it := item(t, w.plan(reconcile.Options{}), "certificates.web"); len(it.Warnings) == 0 {
		t.Error("a certificate of the future is not told")
	}
	w.now = start.Add(100 * 24 * time.Hour)
	if got := describe(w.plan(reconcile.Options{})); got != "certificates.web=renew(Expired)" {
		t.Errorf("got %s", got)
	}
	w.applyOK(reconcile.Options{})
	w.now = start
	w.wantEmpty()
}

// A whole fleet renewed in the same minute.
func TestRenewalsAreSpread(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	end := start.Add(90 * 24 * time.Hour)
	window := end.Sub(start) / 20
	due := end.Add(-end.Sub(start) / 3)
	var buckets [10]int
	for i := range 1000 {
		c := &spec.Certificate{ID: spec.ID{Kind: spec.KindCertificate, Name: fmt.Sprintf("host-%d", i)}, Duration: end.Sub(start)}
		at := reconcile.RenewAt(c, start, end, time.Time{})
		if again := reconcile.RenewAt(c, start, end, time.Time{}); !again.Equal(at) {
			t.Fatal("the time is not stable")
		}
		early := due.Sub(at)
		if early < 0 || early > window {
			t.Fatalf("%s is due %s early, outside the window of %s", c.Name, early, window)
		}
		buckets[min(9, int(10*early/window))]++
	}
	for i, n := range buckets {
		if n < 60 || n > 140 {
			t.Errorf("tenth %d of the window has %d of 1000 renewals", i, n)
		}
	}
}

// Keys turned up in logs and state files.
func TestKeysStayPut(t *testing.T) {
	w := newWorld(t, deep)
	w.twist = func(_ pki.Request, chain pki.Chain, err error) (pki.Chain, error) {
		if err != nil {
			return nil, err
		}
		return chain, nil
	}
	var said bytes.Buffer
	say := func(args ...any) {
		for _, a := range args {
			fmt.Fprintf(&said, "%v %+v %#v %s\n", a, a, a, a)
			if data, err := json.Marshal(a); err == nil {
				said.Write(data)
			}
		}
	}
	p, s := w.observe(reconcile.Options{})
	say(p, s, w.spec(), w.backends())
	for _, r := range w.apply(reconcile.Options{}) {
		say(r)
	}
	p, s = w.observe(reconcile.Options{Replace: []string{"*"}})
	p.Seal(w.spec(), s)
	say(p, s, s.Of(p.Items[0].ID()))

	var secrets [][]byte
	homes := map[string]bool{"root.key": true, "sub.key": true, "web.key": true, "tls.key": true}
	walk(t, w.dir, func(path string, data []byte) {
		if homes[filepath.Base(path)] && !strings.Contains(path, "state") {
			secrets = append(secrets, keyBytes(t, data)...)
		}
	})
	if len(secrets) < 12 {
		t.Fatalf("%d secrets found", len(secrets))
	}
	walk(t, w.dir, func(path string, data []byte) {
		if homes[filepath.Base(path)] {
			return
		}
		for _, secret := range secrets {
			if bytes.Contains(data, secret) {
				t.Errorf("%s holds key material", path)
			}
		}
	})
	for _, secret := range secrets {
		if bytes.Contains(said.Bytes(), secret) || bytes.Contains(said.Bytes(), []byte(fmt.Sprintf("%x", secret))) || bytes.Contains(said.Bytes(), []byte(fmt.Sprint(secret))) {
			t.Error("key material was printed")
		}
	}
}

func walk(t *testing.T, dir string, f func(path string, data []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			f(path, data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A serial number of zero, or a guessable one.
func TestSerials(t *testing.T) {
	w := newWorld(t, simple)
	seen := make(map[string]bool)
	for range 20 {
		w.applyOK(reconcile.Options{Replace: []string{"web"}})
		n := w.cert("web.crt").SerialNumber
		if n.Sign() <= 0 || n.BitLen() > 159 || n.Cmp(new(big.Int).Lsh(big.NewInt(1), 64)) < 0 {
			t.Errorf("serial %x", n)
		}
		if seen[n.String()] {
			t.Error("the same serial twice")
		}
		seen[n.String()] = true
	}
}

// Data that cannot be read was taken to be missing, and issued anew.
func TestReadErrorIsNotMissing(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	w.remove("web.key")
	if err := os.Mkdir(w.path("web.key"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := w.plan(reconcile.Options{})
	if it := item(t, p, "certificates.web"); it.Error == "" || it.Action != reconcile.ActionNone || p.Counts.Failed != 1 {
		t.Errorf("got %s %q", it.Action, it.Error)
	}
	if r := w.apply(reconcile.Options{})["certificates.web"]; r.Err == nil {
		t.Error("apply tells no error")
	}
	if w.issued.Load() != 1 {
		t.Error("it was issued again")
	}
}

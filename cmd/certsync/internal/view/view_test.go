package view

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with testdata/NAME.
func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, have, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Errorf("%s (-want +have), -update rewrites it:\n%s", path, diff)
	}
}

var now = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

func days(n int) time.Time { return now.Add(time.Duration(n) * spec.Day) }

func fingerprint(b byte) (f pki.Fingerprint) {
	for i := range f {
		f[i] = b
	}
	return f
}

// everything is a plan with each action, and each thing that a plan can say.
func everything() *reconcile.Plan {
	item := func(name string, a reconcile.Action, reasons ...reconcile.Reason) reconcile.Item {
		return reconcile.Item{Kind: spec.KindCertificate, Name: name, Action: a, Issuer: "root", NewKey: a.Issues(), Reasons: reasons}
	}
	there := func(it reconcile.Item, from, to, renew int) reconcile.Item {
		it.Fingerprint = fingerprint(0xab).String()
		it.NotBefore, it.NotAfter, it.RenewAt = days(from), days(to), days(renew)
		return it
	}
	root := there(item("root", reconcile.ActionRenew, reconcile.Reason{Code: reconcile.RenewalDue, Message: "expires on 2030-06-01 12:00:00 UTC, renewal was due on 2030-04-21 12:00:00 UTC"}), -900, 31, -10)
	root.Kind, root.Issuer, root.NewKey = spec.KindIssuer, "", false
	replaced := there(item("api", reconcile.ActionReplace,
		reconcile.Reason{Code: reconcile.SpecChanged, Message: "the spec changed", Differences: []pki.Difference{
			{Field: "dnsNames", Add: []string{"api.example.com"}, Remove: []string{"old.example.com"}},
			{Field: "commonName", To: "api"},
		}},
		reconcile.Reason{Code: reconcile.RenewalDue, Message: "expires soon"}), -80, 10, -20)
	repaired := there(item("web", reconcile.ActionRepair, reconcile.Reason{Code: reconcile.OutputDrift, Message: "files.privateKey /etc/web.key mode is 0644, want 0600"}), -10, 80, 50)
	repaired.Outputs = []string{"/etc/web.key"}
	expired := there(item("old", reconcile.ActionRenew, reconcile.Reason{Code: reconcile.Expired, Message: "expired on 2030-04-30 12:00:00 UTC"}), -91, -1, -30)
	fine := there(item("fine", reconcile.ActionNone), -10, 80, 50)
	fine.Warnings = []string{"lives as long as its issuer only"}
	fine.Altered = []pki.Difference{{Field: "dnsNames", Add: []string{"dropped.example.com"}}}
	failed := item("broken", reconcile.ActionNone)
	failed.Error, failed.Hint = "files.privateKey: read /etc/broken.key: permission denied", "let certsync read it"
	pruned := item("gone", reconcile.ActionPrune, reconcile.Reason{Code: reconcile.Orphaned, Message: "not in the spec any more"})
	pruned.Issuer, pruned.Outputs = "", []string{"/etc/gone.crt", "/etc/gone.key"}
	orphan := item("orphan", reconcile.ActionPrune, reconcile.Reason{Code: reconcile.Orphaned, Message: "not in the spec any more"})
	orphan.Issuer, orphan.Outputs = "", []string{"/etc/orphan.crt"}
	orphan.Warnings = []string{"/etc/orphan.key was changed since certsync wrote it: left alone"}

	return &reconcile.Plan{
		FormatVersion: reconcile.PlanVersion,
		Created:       now,
		Options:       reconcile.Options{Prune: true},
		Items: []reconcile.Item{
			root,
			item("new", reconcile.ActionCreate, reconcile.Reason{Code: reconcile.Missing, Message: "no certificate yet"}),
			replaced, expired, repaired,
			item("slow", reconcile.ActionWait, reconcile.Reason{Code: reconcile.Pending, Message: "a request is pending"}),
			fine, failed, pruned,
		},
		Counts:  reconcile.Counts{Create: 1, Renew: 2, Replace: 1, Repair: 1, Wait: 1, Prune: 1, Unchanged: 1, Failed: 1},
		Orphans: []reconcile.Item{orphan},
	}
}

// specOf makes a spec with the certificates of a plan.
func specOf(p *reconcile.Plan) *spec.Spec {
	sp := &spec.Spec{}
	for _, it := range p.Items {
		if it.Action == reconcile.ActionPrune {
			continue
		}
		c := &spec.Certificate{ID: it.ID(), Issuer: it.Issuer, DNSNames: []string{it.Name + ".example.com"}, Outputs: []spec.Output{
			{Form: spec.FormCertificate, Path: "/etc/" + it.Name + ".crt"},
			{Form: spec.FormPrivateKey, Path: "/etc/" + it.Name + ".key"},
		}}
		switch {
		case it.Kind == spec.KindIssuer:
			c.CA = &spec.CA{}
			sp.Issuers = append(sp.Issuers, &spec.Issuer{Name: it.Name, CA: c})
			continue
		case it.Name == "web":
			c.Outputs = []spec.Output{
				{Form: spec.FormFullChain, Path: "/srv/web/tls.crt", Dir: "/srv/web"},
				{Form: spec.FormPrivateKey, Path: "/srv/web/tls.key", Dir: "/srv/web"},
			}
		case it.Name == "slow":
			c.Outputs = nil
		}
		sp.Certificates = append(sp.Certificates, c)
	}
	return sp
}

func TestPlan(t *testing.T) {
	var text, js bytes.Buffer
	if err := Plan(&text, everything()); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.txt", text.Bytes())
	if err := JSON(&js, everything()); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.json", js.Bytes())
}

func TestApply(t *testing.T) {
	results := []reconcile.Result{
		{Kind: spec.KindIssuer, Name: "root", Action: reconcile.ActionRenew, Fingerprint: fingerprint(0xcd).String(), NotAfter: days(1024)},
		{Kind: spec.KindCertificate, Name: "new", Action: reconcile.ActionCreate, Fingerprint: fingerprint(0xef).String(), NotAfter: days(30),
			Altered:  []pki.Difference{{Field: "dnsNames", Add: []string{"dropped.example.com"}}, {Field: "duration", From: "30d", To: "90d"}},
			Warnings: []string{"lives until 2030-05-31 12:00:00 UTC only, as long as issuer \"root\""}},
		{Kind: spec.KindCertificate, Name: "api", Action: reconcile.ActionReplace, Err: errors.New("write /etc/api.crt: no space left on device")},
	}
	var out, errs, js bytes.Buffer
	if err := Results(&out, &errs, results); err != nil {
		t.Fatal(err)
	}
	golden(t, "apply.txt", append(out.Bytes(), errs.Bytes()...))
	p := everything()
	p.Items = p.Items[:1]
	if err := JSON(&js, ApplyReport(p, results)); err != nil {
		t.Fatal(err)
	}
	golden(t, "apply.json", js.Bytes())
}

// What an interrupt left undone is one line, however much it is.
func TestInterrupted(t *testing.T) {
	interrupt := fmt.Errorf("%w: interrupt signal received", reconcile.ErrNotStarted)
	results := []reconcile.Result{{Kind: spec.KindIssuer, Name: "root", Action: reconcile.ActionCreate}}
	for i := range 3 {
		results = append(results, reconcile.Result{Kind: spec.KindCertificate, Name: fmt.Sprint(i), Action: reconcile.ActionCreate, Err: interrupt})
	}
	var out, errs strings.Builder
	if err := Results(&out, &errs, results); err != nil {
		t.Fatal(err)
	}
	if have, want := out.String(), "Apply: 1 done, 0 failed, 3 not started.\n"; have != want {
		t.Errorf("%q, want %q", have, want)
	}
	if have, want := errs.String(), "error: 3 not started: interrupt signal received\n"; have != want {
		t.Errorf("%q, want %q", have, want)
	}
	if r := ApplyReport(everything(), results); r.Done != 1 || r.Failed != 0 || r.NotStarted != 3 {
		t.Errorf("done %d, failed %d, not started %d", r.Done, r.Failed, r.NotStarted)
	}
}

func TestStatus(t *testing.T) {
	p := everything()
	p.Items = p.Items[:len(p.Items)-1] // status does not prune
	report := Status(specOf(p), p)
	var text, wide, js bytes.Buffer
	if err := StatusTable(&text, report, false, "/etc"); err != nil {
		t.Fatal(err)
	}
	StatusNotes(&text, report)
	golden(t, "status.txt", text.Bytes())
	if err := StatusTable(&wide, report, true, "/elsewhere"); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-wide.txt", wide.Bytes())
	if err := JSON(&js, report); err != nil {
		t.Fatal(err)
	}
	golden(t, "status.json", js.Bytes())
}

// Every reason that a plan of the spec's certificates may give has a state.
func TestStateOf(t *testing.T) {
	for code, want := range map[reconcile.ReasonCode]string{
		reconcile.Missing: "missing", reconcile.Malformed: "malformed", reconcile.KeyMismatch: "mismatch",
		reconcile.Expired: "expired", reconcile.IssuerChanged: "changed", reconcile.SpecChanged: "changed",
		reconcile.RenewalDue: "renewal due", reconcile.OutputDrift: "drift", reconcile.Pending: "pending",
		reconcile.Denied: "denied", reconcile.Failed: "failed", reconcile.Requested: "ok",
	} {
		it := reconcile.Item{Reasons: []reconcile.Reason{{Code: code}, {Code: reconcile.Requested}}}
		if have := stateOf(&it, now); have != want {
			t.Errorf("%s: state %q, want %q", code, have, want)
		}
		it.Error = "cannot be read"
		want = "failed"
		if code == reconcile.Denied {
			want = "denied" // which is the error
		}
		if have := stateOf(&it, now); have != want {
			t.Errorf("%s with an error: state %q, want %s", code, have, want)
		}
	}
	for code, want := range map[reconcile.ReasonCode]string{
		"": "not yet valid", reconcile.OutputDrift: "not yet valid", reconcile.RenewalDue: "not yet valid", reconcile.SpecChanged: "changed",
	} {
		it := reconcile.Item{NotBefore: now.Add(time.Second), Reasons: []reconcile.Reason{{Code: code}}}
		if have := stateOf(&it, now); have != want {
			t.Errorf("%s of the future: state %q, want %q", code, have, want)
		}
		if have := stateOf(&it, it.NotBefore); have == "not yet valid" {
			t.Errorf("%s at notBefore: state %q", code, have)
		}
	}
}

func TestVerified(t *testing.T) {
	r := VerifyReport{FormatVersion: VerifyVersion, Time: now}
	r.Add(VerifiedCertificate{Kind: "issuers", Name: "root", Problems: []string{}, NotAfter: days(1000), Fingerprint: fingerprint(1).String(), Chain: []string{"CN=root"}})
	r.Add(VerifiedCertificate{Kind: "certificates", Name: "web", Issuer: "root", Problems: []string{"expired on Monday", "as a server: no"}, NotAfter: days(-2)})
	var text, js bytes.Buffer
	if err := Verified(&text, r); err != nil {
		t.Fatal(err)
	}
	golden(t, "verify.txt", text.Bytes())
	if err := JSON(&js, r); err != nil {
		t.Fatal(err)
	}
	golden(t, "verify.json", js.Bytes())
}

func TestInspection(t *testing.T) {
	zero := 0
	key := pki.PublicKeyInfo{Algorithm: "ECDSA", Size: 256, Fingerprint: fingerprint(2)}
	names := pki.NamesInfo{
		DNSNames: []string{"web.example.com", "\x1b[31mred\n"}, IPAddresses: []string{"10.0.0.1", "::1"}, URIs: []string{"spiffe://example.com/web"},
		EmailAddresses: []string{"web@example.com"}, OtherNames: []string{"otherName 1.2.3"},
		Usages: []spec.Usage{spec.UsageDigitalSignature, spec.UsageServerAuth, "1.2.3.4"},
	}
	report := Inspection([]InspectedFile{
		{File: "all.pem", Items: []InspectedItem{
			{Item: pki.Item{Type: pki.ItemCertificate, Certificate: &pki.CertificateInfo{
				Subject: "CN=web", Issuer: "CN=root", Serial: "0a", NotBefore: days(-100), NotAfter: days(-10), NamesInfo: names, PublicKey: key,
				SubjectKeyID: "aa", AuthorityKeyID: "bb", CRLs: []string{"http://example.com/crl"}, OCSPServers: []string{"http://example.com/ocsp"},
				IssuerURLs: []string{"http://example.com/ca"}, Policies: []string{"1.2.3"}, SignatureAlgorithm: "ECDSA-SHA256", Fingerprint: fingerprint(3),
				Extensions: []pki.ExtensionInfo{{OID: "1.2.3", Critical: true}, {OID: "1.2.4"}}}}},
			{Item: pki.Item{Type: pki.ItemCertificate, Certificate: &pki.CertificateInfo{
				Subject: "CN=services CA", Issuer: "CN=root", Serial: "0b", NotBefore: days(1), NotAfter: days(100),
				NamesInfo: pki.NamesInfo{IsCA: true, PathLen: &zero}, PublicKey: pki.PublicKeyInfo{Algorithm: "Ed25519"}, SignatureAlgorithm: "Ed25519",
				NameConstraints: &pki.NameConstraints{Critical: true, Permitted: pki.Names{DNSDomains: []string{"example.com"}, IPRanges: []string{"10.0.0.0/8"}},
					Excluded: pki.Names{URIDomains: []string{""}}}}}},
			{Item: pki.Item{Type: pki.ItemRequest, Request: &pki.RequestInfo{Subject: "CN=web", NamesInfo: names, PublicKey: key, SignatureAlgorithm: "ECDSA-SHA256"}}},
			{Item: pki.Item{Type: pki.ItemCRL, CRL: &pki.CRLInfo{Issuer: "CN=root", Number: "01", ThisUpdate: days(-1), NextUpdate: days(6), SignatureAlgorithm: "ECDSA-SHA256",
				Revoked: []pki.RevokedInfo{{Serial: "0a", RevokedAt: days(-1), Reason: "key compromise"}}}}},
			{Item: pki.Item{Type: pki.ItemOther, PEMType: "DH PARAMETERS"}},
		}},
		{File: "web.key", Items: []InspectedItem{{Item: pki.Item{Type: pki.ItemPrivateKey, PrivateKey: &pki.PrivateKeyInfo{Encoding: spec.PKCS8, PublicKey: &key}}}}},
		{File: "other.key", Items: []InspectedItem{{Item: pki.Item{Type: pki.ItemPrivateKey,
			PrivateKey: &pki.PrivateKeyInfo{Encoding: spec.SEC1, PublicKey: &pki.PublicKeyInfo{Algorithm: "ECDSA", Size: 384, Fingerprint: fingerprint(9)}}}}}},
		{File: "secret.key", Items: []InspectedItem{{Item: pki.Item{Type: pki.ItemPrivateKey, PrivateKey: &pki.PrivateKeyInfo{Encoding: spec.PKCS8, Encrypted: true}}}}},
		{File: "web.pub", Items: []InspectedItem{{Item: pki.Item{Type: pki.ItemPublicKey, PublicKey: &key}}}},
		{File: "garbage", Error: "inspect garbage: nothing found"},
	}, nil)
	report.Time = now
	var text, js bytes.Buffer
	if err := InspectionText(&text, report); err != nil {
		t.Fatal(err)
	}
	golden(t, "inspect.txt", text.Bytes())
	if err := JSON(&js, report); err != nil {
		t.Fatal(err)
	}
	golden(t, "inspect.json", js.Bytes())
}

func TestGraph(t *testing.T) {
	sp := specOf(everything())
	sp.Certificates[0].CommonName = "a \"b\"\\c\n# `d` *e*_f_ & <g>"
	sp.Certificates[0].DNSNames = nil
	sp.Certificates[1].IPAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")}
	sp.Certificates[1].URIs = []string{"spiffe://example.com/api"}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"graph.txt":     func(w *bytes.Buffer) error { return GraphTree(w, sp) },
		"graph.dot":     func(w *bytes.Buffer) error { return GraphDot(w, sp) },
		"graph.mermaid": func(w *bytes.Buffer) error { return GraphMermaid(w, sp) },
	} {
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.Bytes())
	}
}

// Columns line up for characters that take two columns of a terminal, or none,
// and in spite of colours.
func TestTable(t *testing.T) {
	var out strings.Builder
	table{rows: [][]string{{"A", "B", "C"}, {"日本", "e\u0301", "x"}, {"ascii", "longer", "x"}}}.write(&out, func(_, column int, cell string) string {
		if column == 1 {
			return painter(true).paint(red, cell)
		}
		return cell
	})
	want := "A      \x1b[31mB\x1b[0m       C\n" +
		"日本   \x1b[31me\u0301\x1b[0m       x\n" +
		"ascii  \x1b[31mlonger\x1b[0m  x\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestDistance(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                            "in less than a minute",
		-time.Second:                 "less than a minute ago",
		90 * time.Second:             "in 1m",
		119 * time.Minute:            "in 119m",
		2 * time.Hour:                "in 2h",
		2*spec.Day - time.Second:     "in 47h",
		-2 * spec.Day:                "2d ago",
		3650*spec.Day + time.Hour:    "in 3650d",
		-(3*spec.Day + 23*time.Hour): "3d ago",
	} {
		if have := distance(d); have != want {
			t.Errorf("%v: %q, want %q", d, have, want)
		}
	}
}

type hintedError struct{ error }

func (hintedError) Hint() string { return "try again" }

func TestError(t *testing.T) {
	var out strings.Builder
	Error(&out, errors.Join(errors.New("one"), fmt.Errorf("two: %w", hintedError{errors.New("three")})))
	Error(&out, spec.Problems{
		{Pos: spec.Position{File: "a.yaml", Line: 1, Column: 2}, Path: "x", Message: "is wrong", Hint: "mend it"},
		{Pos: spec.Position{File: "a.yaml", Line: 2, Column: 2}, Path: "y", Message: "is wrong", Hint: "mend it"},
		{Pos: spec.Position{File: "a.yaml", Line: 3, Column: 2}, Path: "z", Message: "is bad"},
		{Pos: spec.Position{File: "a.yaml", Line: 4, Column: 2}, Path: "z", Message: "is worse", Hint: "leave it"},
		{Pos: spec.Position{File: "a.yaml", Line: 5, Column: 2}, Path: "z", Message: "is wrong", Hint: "mend it"},
	})
	want := "error: one\nerror: two: three\nhint: try again\n" +
		"error: a.yaml:1:2: x: is wrong\nerror: a.yaml:2:2: y: is wrong\nhint: mend it\n" +
		"error: a.yaml:3:2: z: is bad\n" +
		"error: a.yaml:4:2: z: is worse\nhint: leave it\n" +
		"error: a.yaml:5:2: z: is wrong\nhint: mend it\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

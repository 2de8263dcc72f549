package view

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
)

// InspectionReport is what inspect found, as JSON.
type InspectionReport struct {
	FormatVersion int             `json:"formatVersion"`
	Files         []InspectedFile `json:"files"`
	// Endpoints is there if any were given.
	Endpoints []InspectedEndpoint `json:"endpoints,omitempty"`
	// Time is what validity is told for in text; JSON leaves that to the reader.
	Time time.Time `json:"-"`
}

// InspectedFile is what was found in one file.
type InspectedFile struct {
	File  string          `json:"file"`
	Items []InspectedItem `json:"items"`
	Error string          `json:"error,omitempty"`
}

// InspectedItem is one thing in a file.
type InspectedItem struct {
	pki.Item
	// Matches are, for a private key, the certificates, requests and public keys
	// of all files that are for it.
	Matches []InspectedRef `json:"matches,omitempty"`
}

// InspectedRef points to an item of a file, or of the chain of an endpoint; Index
// counts from 0.
type InspectedRef struct {
	File  string `json:"file"`
	Index int    `json:"index"`
	Type  string `json:"type"`
}

const inspectionVersion = 1

// Inspection makes the report of some files and endpoints, with what belongs
// together in it.
func Inspection(files []InspectedFile, endpoints []InspectedEndpoint) InspectionReport {
	users := map[pki.Fingerprint][]InspectedRef{}
	use := func(place string, items []InspectedItem) {
		for i, it := range items {
			if k := publicKeyOf(&it.Item); k != nil {
				users[k.Fingerprint] = append(users[k.Fingerprint], InspectedRef{place, i, it.Type})
			}
		}
	}
	for _, f := range files {
		use(f.File, f.Items)
	}
	for i := range endpoints {
		use(endpoints[i].Endpoint, endpoints[i].Chain)
	}
	for i := range files {
		if files[i].Items == nil {
			files[i].Items = []InspectedItem{}
		}
		for j := range files[i].Items {
			it := &files[i].Items[j]
			if it.PrivateKey != nil && it.PrivateKey.PublicKey != nil {
				it.Matches = users[it.PrivateKey.PublicKey.Fingerprint]
			}
		}
	}
	if files == nil {
		files = []InspectedFile{}
	}
	return InspectionReport{FormatVersion: inspectionVersion, Files: files, Endpoints: endpoints}
}

// publicKeyOf returns the public key that an item is about; nil for none.
func publicKeyOf(it *pki.Item) *pki.PublicKeyInfo {
	switch {
	case it.Certificate != nil:
		return &it.Certificate.PublicKey
	case it.Request != nil:
		return &it.Request.PublicKey
	}
	return it.PublicKey
}

// InspectionText writes the report for people.
func InspectionText(w io.Writer, r InspectionReport) error {
	out := bufio.NewWriter(w)
	s := sheet{w: out, p: newPainter(w), now: r.Time}
	for _, f := range r.Files {
		s.others = s.others || slices.ContainsFunc(f.Items, func(it InspectedItem) bool { return publicKeyOf(&it.Item) != nil })
	}
	for i := range r.Endpoints {
		s.others = s.others || len(r.Endpoints[i].Chain) > 0
	}
	for _, f := range r.Files {
		s.items(f.File, f.Items)
	}
	for i := range r.Endpoints {
		if e := &r.Endpoints[i]; e.Verdict != nil {
			s.endpoint(e)
		}
	}
	return out.Flush()
}

// items shows what is in one place.
func (s *sheet) items(place string, items []InspectedItem) {
	for i := range items {
		number := ""
		if len(items) > 1 {
			number = fmt.Sprintf(" %d of %d", i+1, len(items))
		}
		it := &items[i]
		kind := it.Type
		if it.PEMType != "" {
			kind = "PEM block " + strconv.Quote(it.PEMType)
		}
		s.title(printable(place) + number + ": " + kind)
		s.item(it)
	}
}

// title begins a part, with an empty line before all but the first.
func (s *sheet) title(text string) {
	if s.begun {
		fmt.Fprintln(s.w)
	}
	s.begun = true
	fmt.Fprintln(s.w, s.p.paint(bold, text))
}

// sheet writes lines of a label and a value. What comes from a file is not to be
// trusted: see printable.
type sheet struct {
	w   io.Writer
	p   painter
	now time.Time
	// begun tells that something was shown.
	begun bool
	// others tells that there are certificates and the like, which a key might belong to.
	others bool
}

func (s sheet) line(label, value string) { s.painted(label, printable(value)) }

// painted is line for what may hold colours, and nothing from outside.
func (s sheet) painted(label, value string) {
	if value != "" {
		fmt.Fprintf(s.w, "  %-14s %s\n", label+":", value)
	}
}

func (s sheet) lines(label string, values []string) { s.line(label, strings.Join(values, ", ")) }

func (s sheet) item(it *InspectedItem) {
	s.line("of", it.Of)
	s.line("alias", it.Alias)
	if it.Trusted {
		s.line("trusted", "yes, as a CA entry")
	}
	switch {
	case it.Keystore != nil:
		s.line("format", it.Keystore.Format)
		s.line("profile", string(it.Keystore.Profile))
		s.line("private keys", strconv.Itoa(it.Keystore.Keys))
		s.line("trusted", strconv.Itoa(it.Keystore.Trusted))
	case it.Kubeconfig != nil:
		s.kubeconfig(it.Kubeconfig)
	case it.Certificate != nil:
		s.certificate(it.Certificate)
	case it.Request != nil:
		s.line("subject", it.Request.Subject)
		s.names(&it.Request.NamesInfo)
		s.line("public key", keyText(&it.Request.PublicKey))
		s.line("key SHA-256", it.Request.PublicKey.Fingerprint.String())
		signed := printable(it.Request.SignatureAlgorithm)
		if !it.Request.SignatureValid {
			signed += s.p.paint(red, ", NOT VALID")
		}
		s.painted("signature", signed)
		s.extensions(it.Request.Extensions)
	case it.PrivateKey != nil:
		s.privateKey(it)
	case it.PublicKey != nil:
		s.line("public key", keyText(it.PublicKey))
		s.line("key SHA-256", it.PublicKey.Fingerprint.String())
	case it.CRL != nil:
		s.crl(it.CRL)
	}
}

func (s sheet) kubeconfig(k *pki.KubeconfigInfo) {
	// entry shows what is stated, with its label.
	entry := func(kind, name string, words ...string) {
		var parts []string
		for i := 0; i+1 < len(words); i += 2 {
			if words[i+1] != "" {
				parts = append(parts, strings.TrimSpace(words[i]+" "+words[i+1]))
			}
		}
		if len(parts) > 0 {
			name += ": "
		}
		s.line(kind, name+strings.Join(parts, ", "))
	}
	for _, c := range k.Contexts {
		kind := "context"
		if c.Name == k.CurrentContext {
			kind = "in use"
		}
		entry(kind, c.Name, "user", c.User, "cluster", c.Cluster, "namespace", c.Namespace, "", strings.Join(c.Other, ", "))
	}
	for _, c := range k.Clusters {
		entry("cluster", c.Name, "", c.Server, "server name", c.TLSServerName, "proxy", c.ProxyURL, "CA in", c.CAFile, "", strings.Join(c.Other, ", "))
	}
	for _, u := range k.Users {
		entry("user", u.Name, "certificate in", u.CertificateFile, "key in", u.KeyFile, "not shown:", strings.Join(u.Other, ", "))
	}
	s.lines("besides", k.Other)
}

func (s sheet) certificate(c *pki.CertificateInfo) {
	s.line("subject", c.Subject)
	s.line("issuer", c.Issuer)
	s.line("serial", c.Serial)
	s.painted("not before", s.start(c.NotBefore))
	s.painted("not after", s.end(c.NotAfter))
	s.names(&c.NamesInfo)
	if n := c.NameConstraints; n != nil {
		s.lines("permitted", constraintWords(&n.Permitted))
		s.lines("excluded", constraintWords(&n.Excluded))
	}
	s.line("public key", keyText(&c.PublicKey))
	s.line("key SHA-256", c.PublicKey.Fingerprint.String())
	s.line("subject key", c.SubjectKeyID)
	s.line("authority key", c.AuthorityKeyID)
	s.lines("CRLs", c.CRLs)
	s.lines("OCSP", c.OCSPServers)
	s.lines("issuer URLs", c.IssuerURLs)
	s.lines("policies", c.Policies)
	s.line("signature", c.SignatureAlgorithm)
	s.line("SHA-256", c.Fingerprint.String())
	s.extensions(c.Extensions)
}

func (s sheet) names(n *pki.NamesInfo) {
	if n.IsCA {
		ca := "yes"
		if n.PathLen != nil {
			ca += fmt.Sprintf(", pathLen %d", *n.PathLen)
		}
		s.line("CA", ca)
	}
	s.lines("DNS names", n.DNSNames)
	s.lines("IP addresses", n.IPAddresses)
	s.lines("URIs", n.URIs)
	s.lines("e-mail", n.EmailAddresses)
	s.lines("other names", n.OtherNames)
	usages := make([]string, len(n.Usages))
	for i, u := range n.Usages {
		usages[i] = string(u)
	}
	s.lines("usages", usages)
}

func (s sheet) privateKey(it *InspectedItem) {
	k := it.PrivateKey
	encoding := string(k.Encoding)
	if k.Encrypted {
		encoding += ", encrypted"
	}
	s.line("encoding", encoding)
	if k.PublicKey == nil {
		s.line("private key", "not shown: the password is needed")
		return
	}
	s.line("private key", keyText(k.PublicKey))
	s.line("key SHA-256", k.PublicKey.Fingerprint.String())
	refs := make([]string, len(it.Matches))
	for i, m := range it.Matches {
		refs[i] = fmt.Sprintf("%s in %s", m.Type, m.File)
	}
	switch {
	case len(refs) > 0:
		s.lines("belongs to", refs)
	case s.others:
		s.painted("belongs to", s.p.paint(yellow, "nothing else that was given"))
	}
}

func (s sheet) crl(c *pki.CRLInfo) {
	s.line("issuer", c.Issuer)
	s.line("number", c.Number)
	s.painted("this update", s.start(c.ThisUpdate))
	if c.NextUpdate.IsZero() {
		s.line("next update", "not told")
	} else {
		s.painted("next update", s.end(c.NextUpdate))
	}
	s.line("authority key", c.AuthorityKeyID)
	s.line("signature", c.SignatureAlgorithm)
	s.line("SHA-256", c.Fingerprint.String())
	s.extensions(c.Extensions)
	s.line("revoked", strconv.Itoa(len(c.Revoked)))
	for _, r := range c.Revoked {
		fmt.Fprintf(s.w, "    %s  %s  %s\n", r.Serial, instant(r.RevokedAt), r.Reason)
	}
}

func (s sheet) extensions(list []pki.ExtensionInfo) {
	var words []string
	for _, e := range list {
		word := e.OID
		if e.Critical {
			word += " (critical)"
		}
		words = append(words, word)
	}
	s.lines("extensions", words)
}

// start and end show the limits of a validity, and mark those that are not kept.
func (s sheet) start(t time.Time) string {
	if s.now.Before(t) {
		return instant(t) + s.p.paint(red, " (not valid yet: "+distance(t.Sub(s.now))+")")
	}
	return instant(t)
}

func (s sheet) end(t time.Time) string {
	if !s.now.Before(t) {
		return instant(t) + s.p.paint(red, " (expired "+distance(t.Sub(s.now))+")")
	}
	return instant(t) + " (" + distance(t.Sub(s.now)) + ")"
}

func keyText(k *pki.PublicKeyInfo) string {
	if k.Size == 0 {
		return k.Algorithm
	}
	return fmt.Sprintf("%s %d", k.Algorithm, k.Size)
}

func constraintWords(n *pki.Names) []string {
	var words []string
	for _, list := range [][]string{n.DNSDomains, n.IPRanges, n.EmailAddresses, n.URIDomains} {
		for _, v := range list {
			words = append(words, cmp.Or(v, `""`))
		}
	}
	return words
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

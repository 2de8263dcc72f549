package reconcile

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// State is what Observe found. It holds public facts only: of private keys,
// what their public halves tell.
type State struct {
	certs   map[spec.ID]*CertState
	orphans []orphan
}

// Of returns what was found of one certificate of the spec.
func (s *State) Of(id spec.ID) *CertState { return s.certs[id] }

// CertState is what was found of one certificate of the spec.
type CertState struct {
	// Outputs are parallel to the certificate's outputs, and then to former.
	Outputs []OutputState
	// Leaf is the certificate that is in use: of several the one that matches
	// a key, of these the newest. Nil if there is none.
	Leaf *Leaf
	// Key is the key that matches Leaf, else any; nil if there is none.
	Key *pki.KeyInfo
	// Match tells that Key is the key of Leaf.
	Match bool
	// IssuerErr tells why Leaf is not signed by its issuer's certificate; nil
	// if it is, or if that certificate is not there.
	IssuerErr error
	Record    *Record
	// Objects are the objects that hold outputs.
	Objects []ObjectState
	// Err is what kept the certificate from being observed.
	Err error

	former    []spec.Output     // outputs of an earlier spec, looked at if the others do not do
	keyOutput int               // index of the output that Key was read from
	cert      *x509.Certificate // Leaf itself, for CAs only: leaves are too many
	heir      *x509.Certificate // of a CA that has lost its certificate: what it will be for its key
	remote    *remoteState      // nil if no remote issuer is, or was, asked
}

// Leaf holds the facts about a certificate that decisions are made from.
type Leaf struct {
	Fingerprint         pki.Fingerprint
	Key                 pki.Fingerprint
	NotBefore, NotAfter time.Time
	Identity            pki.Identity
}

// OutputState is what was found at one output.
type OutputState struct {
	Exists bool
	// Malformed tells why the content cannot be understood; empty if it can.
	Malformed string
	// Drift tells what besides the content differs.
	Drift []string
	// Certs are the fingerprints of the certificates, in their order.
	Certs []pki.Fingerprint
	// Key is set if the output holds a private key.
	Key *pki.KeyInfo
	// Keystore is set for a keystore that could be opened.
	Keystore *KeystoreState
	// Kubeconfig is set for a kubeconfig that could be read.
	Kubeconfig *KubeconfigState
	// ServerCA are the certificates in the file that a kubeconfig takes for the CA
	// of its server, if that is not the certificate of an issuer.
	ServerCA []pki.Fingerprint
	// Locked tells why a keystore could not be opened with the password.
	Locked error

	file   FileID
	digest [sha256.Size]byte // of the content; zero if it holds a key
}

// orphan is what certsync wrote and the spec has no more.
type orphan struct {
	id      spec.ID
	record  *Record
	outputs []spec.Output // still there, and still what certsync wrote
	foreign []string      // still there, but changed since
	gone    bool          // the certificate itself is not in the spec
	pending *PendingRequest
	err     error

	objects     []removal // those that the outputs are in
	foreignSpec error     // the record belongs to another spec, as this tells
}

// output returns the output that Outputs[i] is about.
func (s *CertState) output(c *spec.Certificate, i int) spec.Output {
	if i < len(c.Outputs) {
		return c.Outputs[i]
	}
	return s.former[i-len(c.Outputs)]
}

// settled tells whether the last record is about the certificate that is there.
func (s *CertState) settled() bool {
	return s.Record != nil && s.Leaf != nil && s.Record.Fingerprint == s.Leaf.Fingerprint.String()
}

// digest sums up everything observed, so that a saved plan can be told to be
// stale. Of private keys only the public half goes in.
func (s *State) digest(sp *spec.Spec) string {
	h := sha256.New()
	for c := range sp.All() {
		st := s.certs[c.ID]
		fmt.Fprintf(h, "%s\n", c.ID)
		if st.Err != nil {
			fmt.Fprintf(h, "error %s\n", st.Err)
		}
		for i := range st.Objects {
			st.Objects[i].digest(h)
		}
		for i := range st.Outputs {
			o := &st.Outputs[i]
			fmt.Fprintf(h, "%s %t %x %q %q\n", st.output(c, i).Path, o.Exists, o.digest, o.Malformed, o.Drift)
			if o.Key != nil {
				fmt.Fprintf(h, "key %s %s %t\n", o.Key.Fingerprint, o.Key.Encoding, o.Key.Encrypted)
			}
			if k := o.Keystore; k != nil {
				fmt.Fprintf(h, "keystore %q %s %q %t\n", k.Alias, k.Profile, k.Trusted, k.More)
			}
			if k := o.Kubeconfig; k != nil {
				fmt.Fprintf(h, "kubeconfig %q %t %t %q\n", k.settings(), k.HoldsKey, k.HoldsCertificate, k.More)
			}
			for _, f := range o.ServerCA {
				h.Write(f[:])
			}
			if o.Locked != nil {
				fmt.Fprintf(h, "locked %s\n", o.Locked)
			}
			for _, f := range o.Certs {
				h.Write(f[:])
			}
		}
		hashRecord(h.Write, st.Record)
		st.remote.digest(h)
	}
	for _, o := range s.orphans {
		fmt.Fprintf(h, "orphan %s %d %q %v\n", o.id, len(o.outputs), o.foreign, o.foreignSpec)
		hashRecord(h.Write, o.record)
		if o.pending != nil {
			fmt.Fprintf(h, "pending %s\n", o.pending.Request)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashRecord(write func([]byte) (int, error), r *Record) {
	if r == nil {
		return
	}
	// A record is plain data: it always marshals.
	data, _ := json.Marshal(r)
	_, _ = write(data)
}

// choose picks the certificate and the key that are in use among all that the
// outputs hold: a pair that matches before one that does not, the one that the
// record names before others, then the newest.
func (s *CertState) choose(leaves []*x509.Certificate, keys []int) *x509.Certificate {
	s.keyOutput = -1
	recorded := ""
	if s.Record != nil {
		recorded = s.Record.Fingerprint
	}
	rank := func(c *x509.Certificate) (matched, named bool, key int) {
		spki := pki.KeyFingerprint(c)
		key = slices.IndexFunc(keys, func(i int) bool { return s.Outputs[i].Key.Fingerprint == spki })
		return key >= 0, recorded != "" && pki.CertificateFingerprint(c).String() == recorded, key
	}
	var best *x509.Certificate
	var bestMatched, bestNamed bool
	for _, c := range leaves {
		matched, named, key := rank(c)
		better := best == nil ||
			matched && !bestMatched ||
			matched == bestMatched && named && !bestNamed ||
			matched == bestMatched && named == bestNamed && c.NotBefore.After(best.NotBefore)
		if !better {
			continue
		}
		best, bestMatched, bestNamed = c, matched, named
		if matched {
			s.keyOutput = keys[key]
		}
	}
	if s.keyOutput < 0 && len(keys) > 0 {
		s.keyOutput = keys[0]
	}
	if s.keyOutput >= 0 {
		s.Key = s.Outputs[s.keyOutput].Key
	}
	s.Match = bestMatched
	return best
}

// words joins what drifted into one phrase.
func words(drift []string) string { return strings.Join(drift, ", ") }

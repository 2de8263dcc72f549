package reconcile

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Remote signs certificates, as an Issuer does, but takes its time: hours, other
// processes and somebody's approval may lie between a request and its answer. So
// whoever asks remembers what was asked (see PendingStore), and finds it again by
// its name. A Remote sees a CSR, never a private key.
//
// An error of any method means that what became of the request is not known: it
// says nothing about the request, and the same call may be made again. All methods
// may be called concurrently, return soon after ctx ends, and leave nothing behind
// on this machine.
type Remote interface {
	// Name returns the name under which the issuer knows a request. It depends on
	// the request alone, so that one that was sent is found again, whoever sent it.
	Name(r pki.Request) string

	// Submit sends a request that has no UID yet, unless the issuer has it already,
	// and approves it if the spec tells to. One that has a UID is never sent again.
	Submit(ctx context.Context, s Sent) (Answer, error)

	// Lookup tells what became of a request, and changes nothing.
	Lookup(ctx context.Context, s Sent) (Answer, error)

	// Wait returns when the request is pending or approved no more. When ctx ends
	// before that, the error is the context's.
	Wait(ctx context.Context, s Sent) (Answer, error)

	// Withdraw makes the issuer forget a request, answered or not. It is no error
	// if the issuer does not know it, or does not let it be removed.
	Withdraw(ctx context.Context, s Sent) error

	// Approval returns the command with which a person approves the request.
	Approval(name string) string
}

// Sent is a request to a Remote, and how it is found again.
type Sent struct {
	Request pki.Request
	Name    string
	// UID tells the request from every other one that ever had its name; empty
	// until the issuer has given it one.
	UID string
}

// RequestState is what became of a request.
type RequestState string

// The states of a request. One that is absent was never sent, or was removed from
// where the issuer keeps it.
const (
	RequestAbsent   RequestState = "absent"
	RequestPending  RequestState = "pending"  // nobody has approved it yet
	RequestApproved RequestState = "approved" // and the signer has yet to sign
	RequestIssued   RequestState = "issued"
	RequestDenied   RequestState = "denied" // by who approves
	RequestFailed   RequestState = "failed" // the signer cannot serve it
)

// waits tells whether a request in this state may yet come to another one.
func (s RequestState) waits() bool { return s == RequestPending || s == RequestApproved }

// refused tells whether the same request must not be made again.
func (s RequestState) refused() bool { return s == RequestDenied || s == RequestFailed }

// Answer is what a Remote has to say of a request.
type Answer struct {
	State RequestState
	UID   string
	Since time.Time // when the issuer got the request
	// Reason and Message are those of who denied it, or could not sign it.
	Reason, Message string
	// Chain is the certificate and its intermediates, once it is issued.
	Chain pki.Chain
}

// PendingRequest is a request that a remote issuer has not answered yet: all that it
// takes to use the answer, in whichever run it comes.
type PendingRequest struct {
	FormatVersion int       `json:"formatVersion"`
	Kind          spec.Kind `json:"kind"`
	Name          string    `json:"name"`
	// Source is the file that declared the certificate.
	Source string `json:"source,omitempty"`
	Issuer string `json:"issuer"`
	// Want digests what is asked for and of whom: a request with another one does
	// not answer what the spec wants now.
	Want string `json:"want"`
	// Request is the name under which the issuer knows the request, UID what it
	// gave it.
	Request string `json:"request"`
	UID     string `json:"uid,omitempty"`
	// CSR, Usages and Duration are those of the request.
	CSR      []byte       `json:"csr"`
	Usages   []spec.Usage `json:"usages"`
	Duration string       `json:"duration"`
	// PublicKey is the SHA-256 of the key's SubjectPublicKeyInfo, in hexadecimal.
	PublicKey string    `json:"publicKey"`
	Created   time.Time `json:"created"`
	// SentAt is when it was sent last, Sent how many times.
	SentAt time.Time `json:"sentAt,omitzero"`
	Sent   int       `json:"sent"`
	// Refused is set once the request was denied or failed, since the issuer
	// forgets that in time.
	Refused *Refusal `json:"refused,omitempty"`
	// Key is the PEM of the new private key, encrypted if the spec has a password
	// for the key; empty if the certificate keeps the key that it has.
	Key Secret `json:"-"`
}

// Refusal tells why a request was refused.
type Refusal struct {
	State   RequestState `json:"state"`
	Reason  string       `json:"reason,omitempty"`
	Message string       `json:"message,omitempty"`
}

// PendingVersion is the version of what a PendingStore keeps.
const PendingVersion = 1

// ID returns the identity of the certificate.
func (p *PendingRequest) ID() spec.ID { return spec.ID{Kind: p.Kind, Name: p.Name} }

// sent returns the request as the issuer is asked for it, at the given time.
func (p *PendingRequest) sent(now time.Time) (Sent, error) {
	duration, err := time.ParseDuration(p.Duration)
	if err != nil {
		return Sent{}, fmt.Errorf("the pending request %s: %w", p.Request, err)
	}
	return Sent{Name: p.Request, UID: p.UID, Request: pki.Request{ID: p.ID(), CSR: p.CSR,
		Usages: p.Usages, Duration: duration, Now: now}}, nil
}

// PendingStore is a Store that keeps requests which are not answered yet. Its
// methods may be called concurrently, for different certificates.
type PendingStore interface {
	// Pending returns the request of a certificate, or nil if there is none. One
	// that cannot be understood counts as none and is reported as a notice.
	Pending(ctx context.Context, id spec.ID) (*PendingRequest, error)
	// ListPending lists the certificates that have a request, sorted.
	ListPending(ctx context.Context) ([]spec.ID, error)
	// SavePending keeps a request in the place of an earlier one. When it returns
	// nil the request is durable, and readable by its owner alone.
	SavePending(ctx context.Context, p *PendingRequest) error
	// RemovePending forgets a request; one that is not there is no error. The set
	// that an answer is written with does so, too: see Set.Answered.
	RemovePending(ctx context.Context, id spec.ID) error
}

var errNoPendingStore = errors.New("this store cannot keep requests")

func (b Backends) pendingStore() (PendingStore, error) {
	if s, ok := b.Store.(PendingStore); ok {
		return s, nil
	}
	return nil, errNoPendingStore
}

// want digests what is asked for and of whom.
func want(c *spec.Certificate, i *spec.Issuer) string {
	cluster := ""
	if k := i.Kubernetes; k.Cluster != nil {
		cluster = k.Cluster.Name
	}
	data, err := json.Marshal(struct {
		Identity        pki.Identity
		Duration        time.Duration
		Cluster, Signer string
	}{Identity: pki.Wanted(c), Duration: c.Duration, Cluster: cluster, Signer: i.Kubernetes.SignerName})
	if err != nil {
		panic("reconcile: want: " + err.Error()) // strings and numbers only
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// RecordedRemote is what a record remembers of a certificate from a Remote.
type RecordedRemote struct {
	Cluster string `json:"cluster,omitempty"`
	Signer  string `json:"signer"`
	// Request is the name of the request that it answered.
	Request string `json:"request"`
	// Chain are the intermediates that came with it, in DER.
	Chain [][]byte `json:"chain,omitempty"`
}

// by tells whether the certificate came from the signer that the issuer is.
func (r *RecordedRemote) by(i *spec.Issuer) bool {
	cluster := ""
	if i.Kubernetes.Cluster != nil {
		cluster = i.Kubernetes.Cluster.Name
	}
	return r != nil && r.Signer == i.Kubernetes.SignerName && r.Cluster == cluster
}

func recordedRemote(i *spec.Issuer, request string, intermediates pki.Chain) *RecordedRemote {
	r := &RecordedRemote{Signer: i.Kubernetes.SignerName, Request: request}
	if i.Kubernetes.Cluster != nil {
		r.Cluster = i.Kubernetes.Cluster.Name
	}
	for _, cert := range intermediates {
		r.Chain = append(r.Chain, cert.Raw)
	}
	return r
}

// opener opens each remote issuer once. Its methods may be called concurrently.
type opener struct {
	Backends
	mu      sync.Mutex
	remotes map[string]opened[Remote]
	anchors map[string]opened[[]*x509.Certificate]
	servers map[string]opened[[]*x509.Certificate]
}

type opened[T any] struct {
	value T
	err   error
}

func newOpener(b Backends) *opener {
	return &opener{Backends: b, remotes: map[string]opened[Remote]{},
		anchors: map[string]opened[[]*x509.Certificate]{}, servers: map[string]opened[[]*x509.Certificate]{}}
}

func (o *opener) remote(ctx context.Context, i *spec.Issuer) (Remote, error) {
	return openOnce(ctx, o, o.remotes, i, o.OpenRemote)
}

// anchorsOf returns the CAs that a remote issuer's certificates chain to.
func (o *opener) anchorsOf(ctx context.Context, i *spec.Issuer) ([]*x509.Certificate, error) {
	return openOnce(ctx, o, o.anchors, i, o.Anchors)
}

// serverCA returns the CAs of the servers of a remote issuer's cluster.
func (o *opener) serverCA(ctx context.Context, i *spec.Issuer) ([]*x509.Certificate, error) {
	return openOnce(ctx, o, o.servers, i, o.ClusterCA)
}

func openOnce[T any](ctx context.Context, o *opener, list map[string]opened[T], i *spec.Issuer, open func(context.Context, *spec.Issuer) (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, ok := list[i.Name]
	if !ok {
		if known.value, known.err = open(ctx, i); known.err != nil {
			known.err = fmt.Errorf("issuer %q: %w", i.Name, known.err)
		}
		list[i.Name] = known
	}
	return known.value, known.err
}

// anchored tells whether the certificates of c need a trust anchor: to be written,
// or because the spec states one to check them with.
func anchored(c *spec.Certificate, i *spec.Issuer) bool {
	return i.Kubernetes.CA != "" || c.NeedsAnchor()
}

// anchorOf returns the one of the anchors that signed the end of a chain.
func anchorOf(chain pki.Chain, anchors []*x509.Certificate) (*x509.Certificate, error) {
	last := chain[len(chain)-1]
	var first error
	for _, a := range anchors {
		err := pki.SignedBy(last, a)
		if err == nil {
			return a, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errors.New("its CA is not known")
	}
	return nil, first
}

package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// ErrPending is what an Issuer returns, wrapped, when the answer is not there
// yet: the same request may be made again later.
var ErrPending = errors.New("the request is pending")

// ErrDenied is what an Issuer returns, wrapped, when the request was refused
// for good: the same request must not be made again.
var ErrDenied = errors.New("the request was denied")

// Issuer signs certificates. It sees a CSR, never a private key.
//
// Issue returns the chain for the request: leaf first, root left out. The
// caller verifies it; an Issuer may return whatever its authority gave. An error
// that wraps ErrPending or ErrDenied has the meaning told there, every other one
// means that this attempt failed. Issue leaves nothing behind on this machine.
// Issue may be called concurrently.
type Issuer interface {
	Issue(ctx context.Context, r pki.Request) (pki.Chain, error)
}

// Observation is what a Store found at one output.
type Observation struct {
	Exists bool
	// Data is the content. It may hold a private key.
	Data Secret
	// Mode are the permission bits.
	Mode fs.FileMode
	// File tells which file it is, whatever path led to it; zero if unknown.
	File FileID
	// Drift tells in words what besides the content differs from the output:
	// mode, owner, group, or a directory set that is none.
	Drift []string
}

// FileID identifies a file as long as it is not replaced: two paths that lead to
// the same one are two names for one thing. Of an object in a cluster it is the UID.
type FileID struct {
	Device, Inode uint64
	Object        string
}

// Secret is content that may hold a private key: it never formats as itself.
type Secret []byte

// Format writes a placeholder, whatever the verb (fmt.Formatter).
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[%d bytes]", len(s)) }

// MarshalJSON refuses: secrets are not for records and plans.
func (s Secret) MarshalJSON() ([]byte, error) {
	return nil, errors.New("secret content is not to be marshalled")
}

// File is the new content of one output.
type File struct {
	Output spec.Output
	Data   Secret
}

// Set is one change to everything that belongs to one certificate: it happens
// wholly or not at all.
type Set struct {
	ID spec.ID
	// Write are the outputs that get new content. For a directory set, all of
	// its files are given if any is.
	Write []File
	// Remove are the outputs that are to vanish.
	Remove []spec.Output
	// Archive are the outputs whose present contents, as far as they exist, are
	// to be kept in the archive as the previous set.
	Archive []spec.Output
	// Record replaces the certificate's record; nil removes it.
	Record *Record
	// Answered tells that the certificate's pending request goes with the change:
	// see PendingStore.
	Answered bool
}

// Staged is a Set that is complete beside its targets, but not yet visible.
type Staged interface {
	// Discard removes what was staged. It is a no-op after a commit.
	Discard() error
}

// Store reads and writes outputs that are files, and records. All methods but
// Commit may be called concurrently.
type Store interface {
	// Read observes one output. Absence is an observation; everything else
	// that keeps it from being read, such as a lack of permission, is an error.
	// Read sees a commit that was interrupted as if it were complete.
	Read(ctx context.Context, o spec.Output) (Observation, error)

	// Stage writes a set beside its targets. On error nothing is left behind.
	Stage(ctx context.Context, set Set) (Staged, error)

	// Commit makes staged sets visible and durable, one error for each: after
	// nil the new set is there for good; after an error the old set or the new
	// one is there, whole, and the staged one needs no Discard.
	Commit(ctx context.Context, sets []Staged) []error

	// Record returns the record of a certificate, or nil if there is none. A
	// record that cannot be understood counts as none and is reported as a
	// notice (see Notices).
	Record(ctx context.Context, id spec.ID) (*Record, error)

	// Records lists the certificates that have a record, sorted.
	Records(ctx context.Context) ([]spec.ID, error)
}

// Preparer is a Store that wants to know all outputs of an apply before the
// first of them is staged, because that is cheaper than to learn of them one by
// one. After an error nothing can be staged.
type Preparer interface {
	Prepare(ctx context.Context, outputs []spec.Output) error
}

// Record is what certsync remembers of one certificate: only what cannot be
// read back from the certificate itself. Losing it loses no certificate.
type Record struct {
	FormatVersion int       `json:"formatVersion"`
	Kind          spec.Kind `json:"kind"`
	Name          string    `json:"name"`
	// Source is the file that declared the certificate. What it has written is
	// pruned by a spec that includes this file, or once the file is gone.
	Source string `json:"source,omitempty"`
	// Issuer and SpecDigest tell for what the certificate was issued.
	Issuer     string `json:"issuer,omitempty"`
	SpecDigest string `json:"specDigest,omitempty"`
	// Fingerprint is the SHA-256 of the leaf's DER, Key that of its public
	// key's SubjectPublicKeyInfo; both in lower-case hexadecimal.
	Fingerprint string `json:"fingerprint"`
	Key         string `json:"key"`
	// IssuerKey is the SHA-256 of the SubjectPublicKeyInfo of the key whose
	// signature the certificate bore when it was issued. The certificate of
	// that fingerprint bears it for ever, so it need not be verified again.
	IssuerKey string `json:"issuerKey,omitempty"`
	// IssuedAt is when the issuer answered; zero for an adopted certificate.
	IssuedAt time.Time `json:"issuedAt,omitzero"`
	// Duration is the lifetime that was asked for, as a Go duration.
	Duration string `json:"duration,omitempty"`
	// Altered is what the issuer gave that was not asked for.
	Altered []pki.Difference `json:"altered,omitempty"`
	// Remote is set for the certificate of a remote issuer.
	Remote *RecordedRemote `json:"remote,omitempty"`
	// Outputs is what was written where.
	Outputs []RecordedOutput `json:"outputs"`
	// Contests counts, by object, what was taken back from others who write it.
	Contests map[string]Contest `json:"contests,omitempty"`
}

// RecordVersion is the version of the records that this program writes.
const RecordVersion = 1

// RecordedOutput is one output that certsync wrote.
type RecordedOutput struct {
	Form spec.Form `json:"form"`
	Path string    `json:"path"`
	Dir  string    `json:"dir,omitempty"`
	// Digest is the SHA-256 of the content: what has another one now was
	// changed by somebody else, and is not pruned.
	Digest string `json:"digest"`
	// PasswordFile and PasswordEnv tell where the password of a keystore is.
	PasswordFile string `json:"passwordFile,omitempty"`
	PasswordEnv  string `json:"passwordEnv,omitempty"`
	// Object is set for an output in a cluster, and DataKey is its key there.
	Object  *RecordedObject `json:"object,omitempty"`
	DataKey string          `json:"dataKey,omitempty"`
}

// has tells whether the record says that an output was written to the path.
func (r *Record) has(path string) bool {
	return r != nil && slices.ContainsFunc(r.Outputs, func(o RecordedOutput) bool { return o.Path == path })
}

func recordedOutput(f File) RecordedOutput {
	o := f.Output
	r := RecordedOutput{Form: o.Form, Path: o.Path, Dir: o.Dir, Digest: digestOf(f.Data),
		Object: recordedObject(o.Object), DataKey: o.DataKey}
	if o.Keystore != nil && o.Keystore.Password != nil {
		r.PasswordFile, r.PasswordEnv = o.Keystore.Password.File, o.Keystore.Password.Env
	}
	return r
}

// output returns what of the output is needed to read it.
func (r RecordedOutput) output() spec.Output {
	o := spec.Output{Form: r.Form, Path: r.Path, Dir: r.Dir, DataKey: r.DataKey}
	if r.Object != nil {
		o.Object = r.Object.object()
	}
	if r.Form.IsKeystore() {
		o.Keystore = &spec.Keystore{}
		if r.PasswordFile != "" || r.PasswordEnv != "" {
			o.Keystore.Password = &spec.SecretRef{File: r.PasswordFile, Env: r.PasswordEnv}
		}
	}
	return o
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

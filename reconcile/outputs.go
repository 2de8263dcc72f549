package reconcile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// repair builds the set that writes the outputs that drifted, from the material
// that is there.
func (a *applier) repair(ctx context.Context, t *task) error {
	c, st := t.cert, a.state.Of(t.cert.ID)
	m := pki.Material{}
	outputs := make([]spec.Output, 0, len(t.item.Outputs))
	drifted := make(map[string]bool, len(t.item.Outputs))
	for _, path := range t.item.Outputs {
		drifted[path] = true
	}
	needKey := false
	for _, o := range c.Outputs {
		if drifted[o.Path] {
			outputs = append(outputs, o)
			needKey = needKey || o.Form.HoldsKey()
		}
	}
	var err error
	if needKey {
		if m.Key, err = a.readKey(ctx, c, st); err != nil {
			return err
		}
	}
	leaf, err := a.readLeaf(ctx, c, st)
	if err != nil {
		return err
	}
	m.Chain, m.Anchor = pki.Chain{leaf}, leaf
	if i := a.remoteIssuer(c); i != nil {
		above, err := a.above(ctx, c, st)
		if err != nil {
			return err
		}
		m.Chain, m.Anchor = append(m.Chain, above...), st.remote.anchor
	} else if c.Issuer != "" {
		up := a.authorities[c.Issuer]
		if up.cert == nil {
			return fmt.Errorf("issuer %q %w", c.Issuer, up.err)
		}
		if up.broken != nil {
			return fmt.Errorf("nothing is written that does not chain: issuer %q %w", c.Issuer, up.broken)
		}
		if err := pki.SignedBy(leaf, up.cert); err != nil {
			return fmt.Errorf("nothing is written that does not chain: issuer %q: %w", c.Issuer, err)
		}
		m.Chain, m.Anchor = append(m.Chain, up.chain...), up.anchor
	}
	t.set = Set{ID: c.ID, Archive: outputs}
	if t.set.Write, err = a.files(ctx, c, m, outputs); err != nil {
		return err
	}
	t.set.Record = a.record(c, st, t.set.Write, st.settled() && !st.Record.IssuedAt.IsZero())
	t.set.Record.Source = c.Source
	a.part(t, st)
	return nil
}

// files renders the outputs.
func (a *applier) files(ctx context.Context, c *spec.Certificate, m pki.Material, outputs []spec.Output) ([]File, error) {
	var password []byte
	var err error
	if ref := c.PrivateKey.Password; ref != nil && m.Key != nil {
		if password, err = a.Password(ref); err != nil {
			return nil, err
		}
	}
	files := make([]File, len(outputs))
	for i, o := range outputs {
		var data []byte
		switch {
		case o.Form.IsKeystore():
			data, err = a.encodeKeystore(o, m)
		case o.Form.IsKubeconfig():
			data, err = a.encodeKubeconfig(ctx, c, o, m)
		default:
			data, err = pki.Encode(o.Form, m, c.PrivateKey.Encoding, password)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Field(), err)
		}
		files[i] = File{Output: o, Data: data}
	}
	return files, nil
}

// record returns the certificate's record as it is after the files are written.
// Outputs that an earlier spec had stay in it until they are pruned. The files that
// a certificate had when it was adopted, not issued, are not ours to prune.
func (a *applier) record(c *spec.Certificate, st *CertState, written []File, ours bool) *Record {
	r := Record{FormatVersion: RecordVersion, Kind: c.Kind, Name: c.Name}
	if st.Leaf != nil {
		r.Fingerprint, r.Key = st.Leaf.Fingerprint.String(), st.Leaf.Key.String()
	}
	if st.settled() {
		r = *st.Record
	}
	r.Outputs = make([]RecordedOutput, 0, len(c.Outputs))
	theirs := make(map[string]bool)
	for i, o := range c.Outputs {
		theirs[o.Path] = !ours && (o.Object != nil || st.Outputs[i].Exists && !st.Record.has(o.Path))
	}
	isWritten := make(map[string]bool, len(written))
	objects := make(map[objectKey]bool) // which are written as a whole
	for _, f := range written {
		isWritten[f.Output.Path] = true
		if f.Output.Object != nil {
			objects[keyOf(f.Output.Object)] = true
		}
		if !theirs[f.Output.Path] {
			r.Outputs = append(r.Outputs, recordedOutput(f))
		}
	}
	if st.Record != nil {
		for _, old := range st.Record.Outputs {
			if !isWritten[old.Path] && !(old.Object != nil && objects[keyOf(old.Object.object())]) {
				r.Outputs = append(r.Outputs, old)
			}
		}
	}
	return &r
}

// changed leaves out the files that are there as they would be written: they keep
// their inodes and times. The files of a directory set are written as one, and so is
// an object.
func changed(c *spec.Certificate, st *CertState, files []File) []File {
	as := make(map[string][sha256.Size]byte, len(c.Outputs))
	for i, o := range c.Outputs {
		if s := &st.Outputs[i]; o.Dir == "" && o.Object == nil && len(s.Drift) == 0 {
			as[o.Path] = s.digest
		}
	}
	return slices.DeleteFunc(files, func(f File) bool {
		digest, ok := as[f.Output.Path]
		return ok && digest == sha256.Sum256(f.Data)
	})
}

func anyExists(st *CertState) bool {
	for i := range st.Outputs {
		if st.Outputs[i].Exists {
			return true
		}
	}
	return false
}

package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

const recordExt = ".json"

func (s *Store) recordPath(id spec.ID) string {
	return s.path(recordsDir, string(id.Kind), escapeName(id.Name)+recordExt)
}

// Record returns the record of a certificate; see reconcile.Store. With the lock
// held, a record that cannot be understood is set aside; without, the next
// Recover of this Store does so. One that a newer version wrote is good, only not
// for this program: it stays, and is an error.
func (s *Store) Record(ctx context.Context, id spec.ID) (*reconcile.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, problem, err := s.readRecord(id)
	if err != nil {
		return nil, err
	}
	if problem == nil {
		return r, nil
	}
	path := s.recordPath(id)
	s.mu.Lock()
	s.garbage[path] = true
	locked := s.locked
	if !locked {
		s.noticeLocked(path, "the record of %s cannot be understood and counts as none: %v", id.Title(), problem)
	}
	s.mu.Unlock()
	if locked {
		s.commitMu.Lock()
		defer s.commitMu.Unlock()
		if err := s.setGarbageAside(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// readRecord returns a record or what is wrong with it; neither if there is none.
func (s *Store) readRecord(id spec.ID) (r *reconcile.Record, problem, err error) {
	c, err := s.readTarget(s.recordPath(id))
	if isNotDir(err) {
		return nil, errors.New("its directory is none"), nil
	}
	if err != nil || !c.exists {
		return nil, nil, err
	}
	r, problem = s.decodeRecord(c.data)
	if errors.Is(problem, errNewer) {
		return nil, nil, fmt.Errorf("%s %w", s.recordPath(id), errNewer)
	}
	if problem == nil && (r.Kind != id.Kind || r.Name != id.Name) {
		problem = fmt.Errorf("it is that of %s", spec.ID{Kind: r.Kind, Name: r.Name}.Title())
	}
	if problem != nil {
		return nil, problem, nil
	}
	return r, nil, nil
}

var errNewer = errors.New("was written by a newer version of certsync")

// In its file, a record names what lies below the directory of the state
// directory relative to that. A project that is copied or moved, state and all,
// speaks of its own files then, and not of those that it was copied from.

func (s *Store) encodeRecord(r *reconcile.Record) ([]byte, error) {
	stored := *r
	stored.Source = s.relative(r.Source)
	stored.Outputs = make([]reconcile.RecordedOutput, len(r.Outputs))
	for i, o := range r.Outputs {
		o.PasswordFile = s.relative(o.PasswordFile)
		if o.Object == nil {
			o.Path, o.Dir = s.relative(o.Path), s.relative(o.Dir)
		} else {
			object := *o.Object
			object.Kubeconfig = s.relative(object.Kubeconfig)
			o.Object = &object
		}
		stored.Outputs[i] = o
	}
	data, err := json.MarshalIndent(&stored, "", "  ")
	return append(data, '\n'), err
}

func (s *Store) relative(path string) string {
	base := filepath.Dir(s.dir)
	if rel, err := filepath.Rel(base, path); path != "" && err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

func (s *Store) absolute(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(s.dir), path)
}

func (s *Store) decodeRecord(data []byte) (*reconcile.Record, error) {
	var r reconcile.Record
	err := json.Unmarshal(data, &r)
	if err != nil {
		// A newer version may give other fields another form.
		var head struct {
			FormatVersion int `json:"formatVersion"`
		}
		if json.Unmarshal(data, &head) == nil {
			r.FormatVersion = head.FormatVersion
		}
	}
	switch {
	case r.FormatVersion > reconcile.RecordVersion:
		return nil, errNewer
	case err != nil:
		return nil, errors.New("it is not one JSON object of the right form")
	case r.FormatVersion < 1:
		return nil, fmt.Errorf("its format version is %d", r.FormatVersion)
	}
	r.Source = s.absolute(r.Source)
	for i := range r.Outputs {
		o := &r.Outputs[i]
		o.PasswordFile = s.absolute(o.PasswordFile)
		if o.Object == nil {
			o.Path, o.Dir = s.absolute(o.Path), s.absolute(o.Dir)
		} else {
			o.Object.Kubeconfig = s.absolute(o.Object.Kubeconfig)
		}
	}
	return &r, nil
}

// setGarbageAside moves records that were found to be garbage to corrupt/, unless
// they have been replaced since. Lock and commitMu are held.
func (s *Store) setGarbageAside() error {
	s.mu.Lock()
	paths := sortedKeys(s.garbage)
	s.garbage = map[string]bool{}
	s.mu.Unlock()
	var errs []error
	for _, path := range paths {
		name := filepath.Base(path)
		kind := spec.Kind(filepath.Base(filepath.Dir(path)))
		cert, ok := unescapeName(strings.TrimSuffix(name, recordExt))
		if ok {
			_, problem, err := s.readRecord(spec.ID{Kind: kind, Name: cert})
			if err != nil || problem == nil {
				continue // what cannot be read now need not be garbage
			}
		}
		errs = append(errs, s.setAside(filepath.Dir(path), name, "the record cannot be understood"))
	}
	return errors.Join(errs...)
}

// Records lists the certificates that have a record; see reconcile.Store.
func (s *Store) Records(ctx context.Context) ([]spec.ID, error) {
	return s.certificatesIn(ctx, recordsDir)
}

// certificatesIn lists the certificates that have a file in a directory of the state
// that keeps one for each, sorted; an interrupted commit counts as complete.
func (s *Store) certificatesIn(ctx context.Context, under string) ([]spec.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := s.pendingView()
	if err != nil {
		return nil, err
	}
	var ids []spec.ID
	for _, kind := range kinds {
		dir := s.path(under, string(kind))
		names, err := s.list(dir)
		if err != nil {
			return nil, err
		}
		has := map[string]bool{}
		for _, name := range names {
			has[name] = true
		}
		for _, st := range p.to {
			if st.Dir == dir {
				has[st.To] = true
			}
		}
		for _, st := range p.away {
			if st.Dir == dir {
				delete(has, st.From)
			}
		}
		for name := range has {
			file, ok := strings.CutSuffix(name, recordExt)
			if !ok || strings.HasPrefix(name, ".") {
				continue
			}
			if cert, ok := unescapeName(file); ok {
				ids = append(ids, spec.ID{Kind: kind, Name: cert})
			}
		}
	}
	slices.SortFunc(ids, func(a, b spec.ID) int {
		if c := strings.Compare(string(a.Kind), string(b.Kind)); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return ids, nil
}

// list returns the names in a directory of the state, none if it is not there.
func (s *Store) list(dir string) ([]string, error) {
	d, err := s.fs.OpenDir(dir)
	if isAbsent(err) || isNotDir(err) {
		return nil, nil
	}
	if err != nil {
		return nil, stateError(s.dir, err)
	}
	defer closeQuietly(d)
	names, err := d.Names()
	if err != nil {
		return nil, stateError(s.dir, err)
	}
	return names, nil
}

package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

var _ reconcile.PendingStore = (*Store)(nil)

// storedRequest is a pending request as it is in its file, the only place where
// its key is written.
type storedRequest struct {
	*reconcile.PendingRequest
	Key string `json:"key,omitempty"`
}

func (s *Store) requestPath(id spec.ID) string {
	return s.path(pendingDir, string(id.Kind), escapeName(id.Name)+recordExt)
}

// Pending returns the request of a certificate; see reconcile.PendingStore. Garbage
// and what a newer version wrote are treated as those of records are.
func (s *Store) Pending(ctx context.Context, id spec.ID) (*reconcile.PendingRequest, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := s.requestPath(id)
	p, problem, err := s.readRequest(id)
	if err != nil || problem == nil {
		return p, err
	}
	s.mu.Lock()
	locked := s.locked
	if !locked {
		s.noticeLocked(path, "the pending request of %s cannot be understood and counts as none: %v", id.Title(), problem)
	}
	s.mu.Unlock()
	if !locked {
		return nil, nil
	}
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	return nil, s.setAside(filepath.Dir(path), filepath.Base(path), "the pending request cannot be understood")
}

// readRequest returns a request or what is wrong with it; neither if there is none.
func (s *Store) readRequest(id spec.ID) (p *reconcile.PendingRequest, problem, err error) {
	path := s.requestPath(id)
	c, err := s.readTarget(path)
	if isNotDir(err) {
		return nil, errors.New("its directory is none"), nil
	}
	if err != nil || !c.exists {
		return nil, nil, err
	}
	stored := storedRequest{PendingRequest: &reconcile.PendingRequest{}}
	problem = json.Unmarshal(c.data, &stored)
	p = stored.PendingRequest
	if p == nil {
		p = &reconcile.PendingRequest{}
	}
	switch {
	case p.FormatVersion > reconcile.PendingVersion:
		return nil, nil, fmt.Errorf("%s %w", path, errNewer)
	case problem != nil:
		// What json says may quote the file, and the file holds a key.
		return nil, errors.New("it is not one JSON object of the right form"), nil
	case p.FormatVersion < 1:
		return nil, fmt.Errorf("its format version is %d", p.FormatVersion), nil
	case p.Kind != id.Kind || p.Name != id.Name:
		return nil, fmt.Errorf("it is that of %s", p.ID().Title()), nil
	case p.Request == "" || len(p.CSR) == 0:
		return nil, errors.New("it holds no request"), nil
	}
	p.Source = s.absolute(p.Source)
	if stored.Key != "" {
		p.Key = reconcile.Secret(stored.Key)
	}
	return p, nil, nil
}

// SavePending keeps a request; see reconcile.PendingStore. It needs the lock.
func (s *Store) SavePending(ctx context.Context, p *reconcile.PendingRequest) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	public := *p
	public.Source = s.relative(p.Source)
	data, err := json.MarshalIndent(storedRequest{PendingRequest: &public, Key: string(p.Key)}, "", "  ")
	if err != nil {
		return err
	}
	path := s.requestPath(p.ID())
	dir, name := filepath.Split(path)
	err = s.dirs.use(filepath.Clean(dir), func(d *dirHandle) error {
		return s.writeState(d.Dir, name, append(data, '\n'))
	})
	if err != nil {
		return opError("write", path, err)
	}
	return nil
}

// RemovePending forgets a request; see reconcile.PendingStore. It needs the lock.
func (s *Store) RemovePending(ctx context.Context, id spec.ID) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	path := s.requestPath(id)
	err := s.dirs.use(filepath.Dir(path), func(d *dirHandle) error {
		if err := d.Remove(filepath.Base(path)); err != nil {
			return err
		}
		return d.Sync()
	})
	if err != nil && !isAbsent(err) {
		return opError("remove", path, err)
	}
	return nil
}

// ListPending lists the certificates that have a request; see reconcile.PendingStore.
func (s *Store) ListPending(ctx context.Context) ([]spec.ID, error) {
	return s.certificatesIn(ctx, pendingDir)
}

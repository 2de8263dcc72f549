package files

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certsync/certsync/reconcile"
)

// Store is the reconcile.Store of files and directory sets.
//
// Read, Record and Records need nothing and write nothing: no lock, no state
// directory. Stage and Commit need the lock.
type Store struct {
	fs    FS
	dir   string // the state directory, absolute
	log   *slog.Logger
	now   func() time.Time
	owner owners

	// commitMu is held by whatever moves files that others may read: a commit,
	// a recovery, setting garbage aside.
	commitMu sync.Mutex
	// pending is what an interrupted commit has yet to rename; nil until asked for.
	pending   atomic.Pointer[pendingView]
	pendingMu sync.Mutex

	mu        sync.Mutex
	locked    bool
	recovered bool            // the journal is known to hold nothing unfinished
	id        stateID         // the state directory, as it was when it was locked
	run       string          // names what this run stages; new with every lock
	intents   map[string]bool // directories that an intent record names
	files     []string        // the intent records' files
	staged    int             // sets staged, neither committed nor discarded
	untidy    bool            // something is left for the next Recover to remove
	leftover  []temp          // temporaries that could not be removed
	garbage   map[string]bool // records that could not be understood
	notices   []Notice
	noticed   map[Notice]bool

	seq     atomic.Uint64
	dirs    *dirCache
	intentM sync.Mutex

	tidyMu sync.Mutex
	tidied map[string]bool // directories in which temporaries were removed

	createdMu sync.Mutex
	created   map[string]int // directories made for staged sets, and how many use them
}

var (
	_ reconcile.Store    = (*Store)(nil)
	_ reconcile.Preparer = (*Store)(nil)
)

// Notice is something that was found, needs no action, and is told once.
type Notice struct {
	Path    string
	Message string // the whole sentence, path included
}

// ErrLocked is in the error of Lock if another process has the lock.
var ErrLocked = errors.New("in use")

var errNotLocked = errors.New("the state directory is not locked")

// Option is an option of Open.
type Option func(*Store)

// WithFS replaces the real disk.
func WithFS(fs FS) Option { return func(s *Store) { s.fs = fs } }

// WithClock replaces the wall clock, which names versions and archives.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.now = now } }

// WithLogger tells where what is neither error nor notice is logged.
func WithLogger(log *slog.Logger) Option { return func(s *Store) { s.log = log } }

// Open returns the store whose state directory is stateDir. It neither reads nor
// writes anything.
func Open(stateDir string, opts ...Option) (*Store, error) {
	dir, err := filepath.Abs(stateDir)
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", stateDir, err)
	}
	s := &Store{
		fs:      Disk,
		dir:     dir,
		log:     slog.New(slog.DiscardHandler),
		now:     time.Now,
		noticed: map[Notice]bool{},
		garbage: map[string]bool{},
	}
	for _, o := range opts {
		o(s)
	}
	s.dirs = newDirCache(s.fs)
	return s, nil
}

// Lock makes the state directory if need be and takes its lock; what names the
// command for others who want it meanwhile. If another process has it, the error
// says which one and wraps ErrLocked. The lock ends with the process at the
// latest, so a stale one does not exist.
//
// release gives it back; whatever is staged by then can no longer be committed.
func (s *Store) Lock(what string) (release func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked {
		return nil, fmt.Errorf("state directory %s is %w by this process", s.dir, ErrLocked)
	}
	if err := s.makeState(); err != nil {
		return nil, err
	}
	d, err := s.fs.OpenDir(s.dir)
	if err != nil {
		return nil, stateError(s.dir, err)
	}
	id, err := s.identityOf(d)
	if err != nil {
		closeQuietly(d)
		return nil, err
	}
	unlock, holder, err := d.Lock(lockName, holderInfo(what, s.now()))
	if err := errors.Join(err, d.Close()); err != nil {
		if errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("state directory %s is %w by %s", s.dir, ErrLocked, describeHolder(holder))
		}
		if unlock != nil {
			err = errors.Join(err, unlock())
		}
		return nil, stateError(s.dir, err)
	}
	s.locked, s.recovered = true, false
	s.id, s.run = id, randomHex(6)
	s.intents = map[string]bool{}
	s.files = nil
	s.created = map[string]int{}
	s.leftover, s.untidy = nil, false
	s.tidied = map[string]bool{}
	s.pending.Store(nil)
	return func() error { return s.release(unlock) }, nil
}

// release cleans up what is safe to clean, which after any trouble is left to
// the next Recover, and gives the lock back.
func (s *Store) release(unlock func() error) error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.locked {
		return nil
	}
	s.locked = false
	s.dirs.reset()       // what their paths name may have changed
	defer s.dirs.reset() // and nothing is to keep them open
	if p, err := s.pendingView(); err == nil && p.empty() && s.staged == 0 && !s.untidy && s.removeLeftovers() {
		err := s.syncTidied()
		if err == nil {
			err = s.removeIntents()
		}
		if err != nil {
			s.log.Debug("intent records stay until the next run", "error", err)
		}
	}
	if err := unlock(); err != nil {
		return fmt.Errorf("unlock state directory %s: %w", s.dir, err)
	}
	return nil
}

// removeLeftovers tries once more to remove what could not be removed, with s.mu held.
func (s *Store) removeLeftovers() bool {
	var left []temp
	for _, t := range s.leftover {
		if err := s.removeTemp(t); err != nil {
			left = append(left, t)
		}
	}
	s.leftover = left
	return len(left) == 0
}

// removedFrom notes that a temporary was removed. If its intent record vanished
// first, a power cut could bring back a temporary that nobody looks for.
func (s *Store) removedFrom(dir string) {
	s.tidyMu.Lock()
	defer s.tidyMu.Unlock()
	s.tidied[dir] = true
}

func (s *Store) syncTidied() error {
	s.tidyMu.Lock()
	defer s.tidyMu.Unlock()
	return s.syncDirs(s.dirs, s.tidied)
}

// Notices returns, once each, what was found since the last call.
func (s *Store) Notices() []Notice {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.notices
	s.notices = nil
	return n
}

func (s *Store) noticeLocked(path, format string, args ...any) {
	n := Notice{Path: path, Message: path + ": " + fmt.Sprintf(format, args...)}
	if !s.noticed[n] {
		s.noticed[n] = true
		s.notices = append(s.notices, n)
	}
}

// begin is called before anything is written for a set: it checks for the lock,
// and that what an earlier commit left is done.
func (s *Store) begin(ctx context.Context) error {
	s.mu.Lock()
	locked, recovered := s.locked, s.recovered
	s.mu.Unlock()
	if !locked {
		return errNotLocked
	}
	if recovered {
		return nil
	}
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	s.mu.Lock()
	recovered = s.recovered
	s.mu.Unlock()
	if recovered {
		return nil
	}
	// What cannot be finished is in the way of the sets that it touches only:
	// see blocked.
	if err := s.recoverJournal(ctx); err != nil {
		s.log.Warn("an earlier change is unfinished", "error", err)
	}
	return ctx.Err()
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

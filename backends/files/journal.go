package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/certsync/certsync/spec"
)

// step is one rename of a commit, within one directory. Steps are such that
// doing them again does no harm: the temporary name exists once and never again.
type step struct {
	Dir  string `json:"dir"`
	From string `json:"from"`
	To   string `json:"to"`
	// Ino is set if a target is moved aside to be removed: then From is the
	// target, and this its inode, so that nothing that came later is removed.
	Ino uint64 `json:"ino,omitempty"`
	// Barrier asks for the directory to be durable before the step.
	Barrier bool `json:"barrier,omitempty"`

	copied bool   // another state directory's: the inode tells nothing here
	link   string // the text, if From is a symbolic link
	backup string // the target's previous content, for an undo; "" if there was none
}

// away tells a step that moves a target aside.
func (s *step) away() bool { return s.Ino != 0 }

// commitRecord is the journal's record of a commit: durable before the first
// step, removed after the last one is durable.
type commitRecord struct {
	FormatVersion int           `json:"formatVersion"`
	State         stateID       `json:"state"`
	Sets          []commitSteps `json:"sets"`
}

type commitSteps struct {
	ID    string `json:"id"`
	Steps []step `json:"steps"`
}

// intentRecord names the directories in which a run stages. It is durable before
// the first temporary is made there, so that a recovery knows where to look.
type intentRecord struct {
	FormatVersion int      `json:"formatVersion"`
	State         stateID  `json:"state"`
	Run           string   `json:"run"`
	Dirs          []string `json:"dirs"`

	outside error // why some of its directories were left out
}

const journalVersion = 1

// In its file, a record of the journal names what lies below the directory that
// the state directory is in by the way from the state directory. If a project is
// moved or copied, state and all, the record speaks of the files that went along.
//
// What lies elsewhere has its absolute path, and did not go along. A copy of the
// state directory leaves that to the original, which may be at work on it right
// now. To that end a record tells which state directory wrote it.

// stateID tells a state directory from its copies.
type stateID struct {
	Path   string `json:"path"`
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// same tells whether two are of one directory, which may have been moved. After
// a start of the machine its device may have another number.
func (id stateID) same(other stateID) bool {
	return id.Inode == other.Inode && (id.Device == other.Device || id.Path == other.Path)
}

// identity describes the state directory as it is now.
func (s *Store) identity() (stateID, error) {
	d, err := s.fs.OpenDir(s.dir)
	if err != nil {
		return stateID{}, stateError(s.dir, err)
	}
	defer closeQuietly(d)
	return s.identityOf(d)
}

func (s *Store) identityOf(d Dir) (stateID, error) {
	info, err := d.Stat()
	if err != nil {
		return stateID{}, stateError(s.dir, err)
	}
	return stateID{Path: s.dir, Device: info.Dev, Inode: info.Ino}, nil
}

// journalPath returns what the journal calls a path, and fromJournal the path.
func (s *Store) journalPath(path string) string {
	rel, err := filepath.Rel(s.dir, path)
	if err != nil || s.relative(path) == path {
		return path
	}
	return rel
}

func (s *Store) fromJournal(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.dir, path)
}

// wentAlong tells whether a directory is part of what is copied with the state
// directory. A symbolic link on the way may lead back to the original.
func (s *Store) wentAlong(dir string) bool {
	if rel, err := filepath.Rel(s.dir, dir); err == nil && filepath.IsLocal(rel) {
		return true
	}
	at := filepath.Dir(s.dir)
	rel, err := filepath.Rel(at, dir)
	if err != nil || !filepath.IsLocal(rel) {
		return false
	}
	if rel == "." {
		return true
	}
	for part := range strings.SplitSeq(rel, string(filepath.Separator)) {
		at = filepath.Join(at, part)
		if _, err := s.fs.Readlink(at); !isNotLink(err) && !isAbsent(err) && !isNotDir(err) {
			return false
		}
	}
	return true
}

// copiedError tells that a record of the journal is for the original to carry out.
type copiedError struct {
	from stateID
	dir  string // what did not go along
}

func (e *copiedError) Error() string {
	return fmt.Sprintf("it was written by the state directory %s, of which this one is a copy, and is about %s, "+
		"which is no part of the copy: it is not carried out here", e.from.Path, e.dir)
}

const journalMagic = "certsync journal sha256:"

// encode writes a record of the journal: a line with the checksum, and JSON.
func encode(record any) ([]byte, error) {
	body, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	return append([]byte(journalMagic+hex.EncodeToString(sum[:])+"\n"), body...), nil
}

func decode(data []byte, record any) error {
	head, body, ok := bytes.Cut(data, []byte("\n"))
	sum := sha256.Sum256(body)
	if !ok || string(head) != journalMagic+hex.EncodeToString(sum[:]) {
		return errors.New("its checksum is wrong")
	}
	return json.Unmarshal(body, record)
}

// decodeCommit decodes a record of a commit for the state directory that is here.
func (s *Store) decodeCommit(data []byte, here stateID) (*commitRecord, error) {
	var r commitRecord
	if err := decode(data, &r); err != nil {
		return nil, err
	}
	if r.FormatVersion != journalVersion {
		return nil, fmt.Errorf("its format version is %d, not %d", r.FormatVersion, journalVersion)
	}
	copied := !r.State.same(here)
	for _, set := range r.Sets {
		for i := range set.Steps {
			st := &set.Steps[i]
			if st.Dir == "" || filepath.Base(st.From) != st.From || filepath.Base(st.To) != st.To {
				return nil, errors.New("it names a step that is none")
			}
			st.Dir = s.fromJournal(st.Dir)
			st.copied = copied
			if copied && !s.wentAlong(st.Dir) {
				return nil, &copiedError{r.State, st.Dir}
			}
		}
	}
	return &r, nil
}

// decodeIntent decodes an intent record for the state directory that is here. In
// a copy, only those directories are left that went along.
func (s *Store) decodeIntent(data []byte, here stateID) (*intentRecord, error) {
	var r intentRecord
	if err := decode(data, &r); err != nil {
		return nil, err
	}
	if r.FormatVersion != journalVersion {
		return nil, fmt.Errorf("its format version is %d, not %d", r.FormatVersion, journalVersion)
	}
	copied := !r.State.same(here)
	var dirs []string
	for _, dir := range r.Dirs {
		dir = s.fromJournal(dir)
		if copied && !s.wentAlong(dir) {
			r.outside = &copiedError{r.State, dir}
			continue
		}
		dirs = append(dirs, dir)
	}
	r.Dirs = dirs
	return &r, nil
}

// journalName returns a new name; names sort by time.
func (s *Store) journalName(ext string) string {
	return fmt.Sprintf("%s-%s-%06d%s", s.now().UTC().Format(timeFormat), s.run, s.seq.Add(1), ext)
}

// journalFiles lists the journal, sorted. A journal that is not there is empty.
func (s *Store) journalFiles() ([]string, error) {
	names, err := s.list(s.path(journalDir))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// pendingView is what an interrupted commit has yet to do.
type pendingView struct {
	to   map[string]step // by the target's path: the last rename to it
	away map[string]step // by the target's path: its removal
}

func (p *pendingView) empty() bool { return len(p.to)+len(p.away) == 0 }

// pendingView reads the journal once. It reports nothing: a record that is not
// valid had no step done, that of another state directory is not carried out,
// and the next recovery tells of both.
func (s *Store) pendingView() (*pendingView, error) {
	if p := s.pending.Load(); p != nil {
		return p, nil
	}
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	if p := s.pending.Load(); p != nil {
		return p, nil
	}
	names, err := s.journalFiles()
	if err != nil {
		return nil, err
	}
	p := &pendingView{to: map[string]step{}, away: map[string]step{}}
	var here stateID
	for _, name := range names {
		if !strings.HasSuffix(name, commitExt) {
			continue
		}
		c, err := s.readPlain(s.path(journalDir, name), s.path(journalDir, name))
		if err != nil {
			return nil, err
		}
		if here.Path == "" {
			if here, err = s.identity(); err != nil {
				return nil, err
			}
		}
		if r, err := s.decodeCommit(c.data, here); err == nil {
			p.add(r)
		}
	}
	s.pending.Store(p)
	return p, nil
}

func (p *pendingView) add(r *commitRecord) {
	for _, set := range r.Sets {
		for _, st := range set.Steps {
			if st.away() {
				p.away[filepath.Join(st.Dir, st.From)] = st
			} else {
				p.to[filepath.Join(st.Dir, st.To)] = st
			}
		}
	}
}

// Prepare makes it known where outputs will be staged, in one record for all of
// them. Stage does so itself, but at the price of two syncs for each directory
// that is new to it.
func (s *Store) Prepare(ctx context.Context, outputs []spec.Output) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	dirs := map[string]bool{s.path(archiveDir): true}
	for _, o := range outputs {
		dirs[targetDir(o)] = true
	}
	return s.intend(sortedKeys(dirs))
}

// targetDir returns the directory in which an output is staged.
func targetDir(o spec.Output) string {
	if o.Dir != "" {
		return o.Dir
	}
	return filepath.Dir(o.Path)
}

// intend makes sure that a durable intent record names the directories.
func (s *Store) intend(dirs []string) error {
	s.intentM.Lock() // callers that come at once wait for one record
	defer s.intentM.Unlock()
	var fresh []string
	s.mu.Lock()
	for _, d := range dirs { // sorted
		if !s.intents[d] && (len(fresh) == 0 || fresh[len(fresh)-1] != d) {
			fresh = append(fresh, d)
		}
	}
	s.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	r := intentRecord{FormatVersion: journalVersion, State: s.id, Run: s.run}
	for _, d := range fresh {
		if !utf8.ValidString(d) {
			return fmt.Errorf("directory %q: its name is not valid UTF-8", d)
		}
		r.Dirs = append(r.Dirs, s.journalPath(d))
	}
	data, err := encode(r)
	if err != nil {
		return err
	}
	name := s.journalName(intentExt)
	err = s.withJournal(func(d Dir) error { return s.writeState(d, name, data) })
	if err != nil {
		return fmt.Errorf("state directory %s: write the intent record: %w", s.dir, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = append(s.files, name)
	for _, d := range fresh {
		s.intents[d] = true
	}
	return nil
}

// removeIntents ends a run of which nothing is left, with s.mu held.
func (s *Store) removeIntents() error {
	if len(s.files) == 0 {
		return nil
	}
	return s.withJournal(func(d Dir) error {
		for _, name := range s.files {
			if err := d.Remove(name); err != nil && !isAbsent(err) {
				return err
			}
		}
		s.files = nil
		return nil
	})
}

func (s *Store) withJournal(f func(d Dir) error) error {
	d, err := s.fs.OpenDir(s.path(journalDir))
	if err != nil {
		return err
	}
	defer closeQuietly(d)
	return f(d)
}

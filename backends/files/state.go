package files

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/certsync/certsync/spec"
)

// The state directory, 0700 throughout, files 0600:
//
//	lock                                  the lock, and who has it
//	journal/<time>-<run>-<n>.intent       where a run stages
//	journal/<time>-<run>-<n>.commit       what a commit renames
//	records/<kind>/<name>.json            one for each certificate
//	pending/<kind>/<name>.json            a request that is not answered yet, and its key
//	archive/<kind>/<name>/<time>-…/       the set before the present one
//	corrupt/                              what could not be understood, or is not
//	                                      for this state directory to complete
//
// Nothing in it is needed for what works already: whatever cannot be understood
// is reported once and set aside. It may be moved and copied along with the
// directory that it is in: journal and records name what lies there by relative
// paths.
const (
	lockName   = "lock"
	journalDir = "journal"
	recordsDir = "records"
	pendingDir = "pending"
	archiveDir = "archive"
	corruptDir = "corrupt"

	intentExt = ".intent"
	commitExt = ".commit"
)

var kinds = []spec.Kind{spec.KindIssuer, spec.KindCertificate}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func stateError(dir string, err error) error {
	if isNotDir(err) {
		return fmt.Errorf("state directory %s: not a directory", dir)
	}
	return fmt.Errorf("state directory %s: %w", dir, err)
}

// makeState makes the state directory and those in it that are always there.
func (s *Store) makeState() error {
	if err := s.makeDir(s.dir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	subs := [][2]string{{s.dir, corruptDir}, {s.dir, journalDir}, {s.dir, archiveDir}, {s.dir, recordsDir}, {s.dir, pendingDir}}
	for _, kind := range kinds {
		subs = append(subs, [2]string{s.path(recordsDir), string(kind)}, [2]string{s.path(archiveDir), string(kind)},
			[2]string{s.path(pendingDir), string(kind)})
	}
	for _, sub := range subs {
		path := filepath.Join(sub[0], sub[1])
		err := s.makeDir(path, 0o700)
		if isNotDir(err) && sub[1] != corruptDir {
			if err = s.setAsideLocked(sub[0], sub[1], "it is not a directory"); err == nil {
				err = s.makeDir(path, 0o700)
			}
		}
		if err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
	}
	return nil
}

// makeDir makes a directory and its parents, durably. What is there already
// stays as it is.
func (s *Store) makeDir(path string, mode fs.FileMode) error {
	d, err := s.fs.OpenDir(path)
	if err == nil {
		closeQuietly(d)
		return nil
	}
	if !isAbsent(err) {
		return parentError(path, err)
	}
	parent := filepath.Dir(path)
	if err := s.makeDir(parent, 0o755); err != nil {
		return err
	}
	p, err := s.fs.OpenDir(parent)
	if err != nil {
		return parentError(parent, err)
	}
	defer closeQuietly(p)
	if err := p.Mkdir(filepath.Base(path), mode); err != nil {
		info, lerr := p.Lstat(filepath.Base(path))
		if lerr != nil || !info.Mode.IsDir() || !errors.Is(err, fs.ErrExist) { // else somebody made it just now
			return mkdirError(p, path, err)
		}
	}
	if err := p.Sync(); err != nil {
		return opError("sync", parent, err)
	}
	return nil
}

// writeState makes a small file in the journal: when it returns nil, the file is
// there, whole and durable. After an error it may be there or not.
func (s *Store) writeState(d Dir, name string, data []byte) error {
	tmp := s.tempName(name)
	f, err := d.Create(tmp)
	if err != nil {
		return err
	}
	err = writeFile(f, 0o600, data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.Rename(tmp, d, name)
	}
	if err != nil {
		return errors.Join(err, d.Remove(tmp))
	}
	return d.Sync()
}

// writeFile sets the mode and only then writes.
func writeFile(f File, mode fs.FileMode, data []byte) error {
	if err := f.Chmod(mode); err != nil {
		return err
	}
	_, err := f.Write(data)
	return err
}

// setAside moves an entry of the state directory to corrupt/ and says so.
func (s *Store) setAside(dir, name, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setAsideLocked(dir, name, why)
}

func (s *Store) setAsideLocked(dir, name, why string) error {
	from, err := s.fs.OpenDir(dir)
	if err != nil {
		return stateError(s.dir, err)
	}
	defer closeQuietly(from)
	to, err := s.fs.OpenDir(s.path(corruptDir))
	if err != nil {
		return stateError(s.dir, err)
	}
	defer closeQuietly(to)
	aside := s.now().UTC().Format(timeFormat) + "-" + randomHex(4) + "-" + strings.TrimLeft(name, ".")
	if len(aside) > 255 {
		aside = aside[:255]
	}
	if err := from.Rename(name, to, aside); err != nil {
		return stateError(s.dir, err)
	}
	s.noticeLocked(filepath.Join(dir, name), "%s; set aside as %s", why, s.path(corruptDir, aside))
	return nil
}

// holder is what the lock file says. It is for people only.
type holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	User    string    `json:"user"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

func holderInfo(command string, now time.Time) []byte {
	h := holder{PID: os.Getpid(), Command: command, Since: now.UTC().Truncate(time.Second)}
	h.Host, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		h.User = u.Username
	}
	b, err := json.Marshal(h)
	if err != nil {
		return nil // a date outside the calendar; the line is for people only
	}
	return append(b, '\n')
}

func describeHolder(b []byte) string {
	var h holder
	if json.Unmarshal(b, &h) != nil || h.PID == 0 {
		return "another process"
	}
	s := fmt.Sprintf("pid %d", h.PID)
	if here, _ := os.Hostname(); h.Host != "" && h.Host != here {
		s += " on " + h.Host
	}
	detail := h.Command
	if u, err := user.Current(); h.User != "" && (err != nil || u.Username != h.User) {
		detail = strings.TrimPrefix(detail+" as user "+h.User, " ")
	}
	if detail != "" {
		s += " (" + detail + ")"
	}
	return s + " since " + h.Since.Local().Format(time.RFC3339)
}

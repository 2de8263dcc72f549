package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// maxSize is how large a file may be that is read. Certificates are a few
// kilobytes; somebody's disk image at the path is to be an error, not memory.
const maxSize = 4 << 20

// content is a file that was read.
type content struct {
	exists bool
	data   []byte
	info   Info
	drift  []string
}

// Read observes one output; see reconcile.Store.
func (s *Store) Read(ctx context.Context, o spec.Output) (reconcile.Observation, error) {
	if err := ctx.Err(); err != nil {
		return reconcile.Observation{}, err
	}
	c, err := s.read(o)
	if err != nil || !c.exists {
		return reconcile.Observation{}, err
	}
	drift, err := s.drift(o, c)
	if err != nil {
		return reconcile.Observation{}, err
	}
	return reconcile.Observation{
		Exists: true, Data: c.data, Mode: c.info.Mode.Perm(), Drift: drift,
		File: reconcile.FileID{Device: c.info.Dev, Inode: c.info.Ino},
	}, nil
}

func (s *Store) read(o spec.Output) (content, error) {
	if o.Dir != "" {
		return s.readMember(o)
	}
	return s.readTarget(o.Path)
}

// readTarget reads a plain file. If an interrupted commit was about to replace
// or remove it, that counts as done.
func (s *Store) readTarget(path string) (content, error) {
	p, err := s.pendingView()
	if err != nil {
		return content{}, err
	}
	if st, ok := p.to[path]; ok {
		c, err := s.readPlain(filepath.Join(st.Dir, st.From), path)
		if err != nil || c.exists {
			return c, err
		}
	}
	c, err := s.readPlain(path, path)
	if st, ok := p.away[path]; ok && c.exists {
		if gone, err := s.moves(st, c.info); gone || err != nil {
			return content{}, err
		}
	}
	return c, err
}

// readPlain reads the regular file at path; name is what errors call it.
func (s *Store) readPlain(path, name string) (content, error) {
	f, err := s.fs.Open(path)
	switch {
	case isAbsent(err):
		return content{}, nil
	case isLoop(err):
		// A loop among the parents fails alike; only the last link has a text.
		if text, lerr := s.fs.Readlink(path); lerr == nil {
			return content{}, symlinkError("read", name, text)
		}
		return content{}, opError("read", name, err)
	case err != nil:
		return content{}, opError("read", name, err)
	}
	c := content{exists: true}
	if c.info, err = f.Stat(); err == nil {
		if !c.info.Mode.IsRegular() {
			err = fmt.Errorf("it is %s", kind(c.info.Mode))
		} else {
			c.data, err = readAll(f, c.info.Size)
		}
	}
	_ = f.Close() // opened for reading: nothing is lost
	if err != nil {
		return content{}, opError("read", name, err)
	}
	return c, nil
}

var errTooLarge = errors.New("it is larger than 4 MiB")

// readAll reads a file of about the given size with, as a rule, one call: a
// buffer that is not filled tells the end.
func readAll(f File, size int64) ([]byte, error) {
	if size > maxSize {
		return nil, errTooLarge
	}
	buf := make([]byte, size+1)
	n := 0
	for {
		m, err := f.Read(buf[n:])
		n += m
		switch {
		case errors.Is(err, io.EOF):
			return buf[:n], nil
		case err != nil:
			return nil, err
		case n > maxSize:
			return nil, errTooLarge
		case n < len(buf) && int64(n) >= size:
			return buf[:n], nil
		case n == len(buf): // it has grown
			buf = slices.Concat(buf, make([]byte, len(buf)))
		}
	}
}

// drift tells what besides the content differs from the output.
func (s *Store) drift(o spec.Output, c content) ([]string, error) {
	drift := c.drift
	const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	if have := c.info.Mode & (fs.ModePerm | special); have != o.Mode.Perm() {
		drift = append(drift, fmt.Sprintf("mode is %s, want %s", octal(have), octal(o.Mode.Perm())))
	}
	if o.Owner == "" && o.Group == "" {
		return drift, nil
	}
	uid, gid, err := s.owner.ids(o)
	if err != nil {
		return nil, err
	}
	if uid >= 0 && uid != c.info.UID {
		drift = append(drift, fmt.Sprintf("owner is %s, want %s", userName(c.info.UID), o.Owner))
	}
	if gid >= 0 && gid != c.info.GID {
		drift = append(drift, fmt.Sprintf("group is %s, want %s", groupName(c.info.GID), o.Group))
	}
	return drift, nil
}

// octal writes a mode as chmod(1) takes it.
func octal(m fs.FileMode) string {
	bits := uint32(m.Perm())
	for i, b := range []fs.FileMode{fs.ModeSticky, fs.ModeSetgid, fs.ModeSetuid} {
		if m&b != 0 {
			bits |= 0o1000 << i
		}
	}
	return fmt.Sprintf("%04o", bits)
}

// dataLink is the link of a directory set that names the present version.
const dataLink = "..data"

// memberLink is the text of the link by which a member of a set is reached.
func memberLink(base string) string { return dataLink + "/" + base }

// readMember reads a file of a directory set, through ..data as its readers do.
// Plain files at the members' names, as they are before certsync makes a set of
// them, are read too, and said to be drift.
func (s *Store) readMember(o spec.Output) (content, error) {
	base := filepath.Base(o.Path)
	var drift []string
	text, err := s.readlink(o.Path)
	switch {
	case err == nil && text != memberLink(base):
		return content{}, symlinkError("read", o.Path, text)
	case err == nil:
	case isNotLink(err):
		c, err := s.readPlain(o.Path, o.Path)
		if c.exists {
			c.drift = []string{"it is a plain file, not part of a set"}
		}
		return c, err
	case isAbsent(err):
		drift = []string{"the link to " + memberLink(base) + " is missing"}
	default:
		return content{}, opError("read", o.Path, err)
	}

	var version string
	for range 10 { // a version that vanished was replaced meanwhile, twice
		now, err := s.version(o.Dir)
		if err != nil || now == "" || now == version {
			return content{}, err
		}
		version = now
		c, err := s.readPlain(filepath.Join(o.Dir, version, base), o.Path)
		if err != nil || c.exists {
			c.drift = drift
			return c, err
		}
	}
	return content{}, fmt.Errorf("read %s: the set keeps changing", o.Path)
}

// version returns the present version directory of a set, or nothing.
func (s *Store) version(dir string) (string, error) {
	path := filepath.Join(dir, dataLink)
	version, err := s.readlink(path)
	switch {
	case isAbsent(err):
		return "", nil
	case isNotLink(err):
		return "", fmt.Errorf("read %s: it is not a symbolic link, as that of a directory set is", path)
	case err != nil:
		return "", opError("read", path, err)
	case version == "" || strings.Contains(version, "/") || version == "." || version == "..":
		return "", fmt.Errorf("read %s: it points to %q, not to a directory beside it", path, version)
	}
	return version, nil
}

// readlink reads a symbolic link of a directory set. If an interrupted commit was
// about to replace or remove it, that counts as done.
func (s *Store) readlink(path string) (string, error) {
	p, err := s.pendingView()
	if err != nil {
		return "", err
	}
	if st, ok := p.to[path]; ok {
		if text, err := s.fs.Readlink(filepath.Join(st.Dir, st.From)); !isAbsent(err) {
			return text, err
		}
	}
	text, err := s.fs.Readlink(path)
	if st, ok := p.away[path]; ok {
		if info, err := s.lstat(path); err == nil {
			if gone, err := s.moves(st, info); err != nil {
				return "", err
			} else if gone {
				return "", &fs.PathError{Op: "readlink", Path: path, Err: syscall.ENOENT}
			}
		}
	}
	return text, err
}

// moves tells whether a step of an interrupted commit is about to move aside what
// is at its target's name.
func (s *Store) moves(st step, info Info) (bool, error) {
	return st.moves(info, func() error {
		_, err := s.lstat(filepath.Join(st.Dir, st.To))
		return err
	})
}

func (s *Store) lstat(path string) (Info, error) {
	d, err := s.fs.OpenDir(filepath.Dir(path))
	if err != nil {
		return Info{}, err
	}
	defer closeQuietly(d)
	return d.Lstat(filepath.Base(path))
}

// parentError turns the error of opening the directory of targets into one that
// a user understands.
func parentError(dir string, err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("open %s: %w", dir, syscall.ENOTDIR)
	}
	return opError("open", dir, err)
}

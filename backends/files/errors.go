package files

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
)

// hintError is an error with a line on how to mend it.
type hintError struct {
	msg, hint string
}

func (e *hintError) Error() string { return e.msg }

// Hint returns how to mend it, for the caller to show below the error.
func (e *hintError) Hint() string { return e.hint }

func symlinkError(op, path, text string) error {
	to := ""
	if text != "" {
		to = " to " + text
	}
	hint := "name the file that the link points to; a link at a target is not followed"
	if strings.HasPrefix(text, dataLink+"/") {
		hint = "the path belongs to a directory set: remove it from that set first, or use another path"
	}
	return &hintError{msg: fmt.Sprintf("%s %s: it is a symbolic link%s", op, path, to), hint: hint}
}

// mkdirError explains why a directory that was not found cannot be made in p.
func mkdirError(p Dir, path string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		if text, lerr := p.Readlink(filepath.Base(path)); lerr == nil {
			return fmt.Errorf("create directory %s: it is a dangling symbolic link, to %s", path, text)
		}
	}
	return opError("create directory", path, err)
}

// opError says what was done to which path, and then only what the system said.
func opError(op, path string, err error) error {
	return fmt.Errorf("%s %s: %w", op, path, cause(err))
}

// cause strips the operation and path that a system call's error carries.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok && !isJoined(err) {
		return pe.Err
	}
	return err
}

func isJoined(err error) bool {
	_, ok := err.(interface{ Unwrap() []error })
	return ok
}

func isAbsent(err error) bool  { return errors.Is(err, fs.ErrNotExist) }
func isNotDir(err error) bool  { return errors.Is(err, syscall.ENOTDIR) }
func isLoop(err error) bool    { return errors.Is(err, syscall.ELOOP) }
func isNotLink(err error) bool { return errors.Is(err, syscall.EINVAL) }
func isNotEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist)
}

// kind tells in words what is no regular file.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "a fifo"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}

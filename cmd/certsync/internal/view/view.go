// Package view renders plans, results and states as text for people and as JSON
// for programs. It decides nothing.
package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"

	"github.com/certsync/certsync/spec"
)

// JSON writes v indented, with a newline at the end.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Error writes an error, one line for each that is joined in it, and the hint
// that it may carry. Each problem of a spec has its hint under it; those that
// follow each other and have the same hint share it.
func Error(w io.Writer, err error) {
	var problems spec.Problems
	if errors.As(err, &problems) {
		for i, p := range problems {
			errorLines(w, p)
			if p.Hint != "" && (i+1 == len(problems) || problems[i+1].Hint != p.Hint) {
				fmt.Fprintf(w, "hint: %s\n", p.Hint)
			}
		}
		return
	}
	errorLines(w, err)
	if h := hint(err); h != "" {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
}

// hint returns the advice that an error carries.
func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func errorLines(w io.Writer, err error) {
	for line := range strings.SplitSeq(strings.TrimSuffix(err.Error(), "\n"), "\n") {
		fmt.Fprintf(w, "error: %s\n", line)
	}
}

// Warnings writes problems that do not keep the spec from being applied.
func Warnings(w io.Writer, warnings []spec.Problem) {
	for _, p := range warnings {
		fmt.Fprintf(w, "warning: %s\n", p)
		if p.Hint != "" {
			fmt.Fprintf(w, "hint: %s\n", p.Hint)
		}
	}
}

// printable shows what a terminal would obey, or what has no shape, as escapes of
// Go: certificates and file names can be anybody's.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// Notice writes something that the state directory has to tell.
func Notice(w io.Writer, message string) { fmt.Fprintf(w, "notice: %s\n", message) }

// IsTerminal tells whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// painter colours text, or leaves it alone where colour is not wanted: colour
// is for terminals only, and never with NO_COLOR (https://no-color.org).
type painter bool

func newPainter(w io.Writer) painter {
	return painter(IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (p painter) paint(code, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

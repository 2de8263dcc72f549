package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problems are all the reasons for which a spec cannot be used, sorted by
// place. It is the error of [Load] for a spec that could be read but is wrong.
type Problems []Problem

// Error returns one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems, so that errors.As finds a Problem.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i, problem := range p {
		errs[i] = problem
	}
	return errs
}

// sortProblems sorts by place and drops repetitions: a bad default is one
// problem, however many certificates it reaches.
func sortProblems(p []Problem) []Problem {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Pos.File, b.Pos.File),
			cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Column, b.Pos.Column),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Message, b.Message),
		)
	})
	return slices.Compact(p)
}

// didYouMean returns `; did you mean "x"?` for the known name that is nearest
// to name, or nothing if none is near.
func didYouMean(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// nearest returns the known name with the fewest edits from name, if they are
// few for its length, else "".
func nearest(name string, known []string) string {
	if len(name) > 100 {
		return ""
	}
	best, limit := "", (len(name)+1)/4 // none for one or two letters but case
	for _, k := range known {
		n := edits(strings.ToLower(name), strings.ToLower(k), limit)
		if n <= limit && (best == "" || n < limit) {
			best, limit = k, n
		}
	}
	return best
}

// edits counts the insertions, deletions, substitutions and transpositions of
// neighbours that make b of a; beyond limit the answer is only known to be more.
func edits(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	var before []int
	above := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}

// Package files keeps certificates in files: it is the reconcile.Store for
// plain files and for directory sets.
//
// # What it promises
//
// A set, that is everything that belongs to one certificate, changes wholly or
// not at all. Whatever happens in between, be it an error, a kill or a power
// cut, the old set or the new one is there, complete, with the right modes; and
// what was reported as done survives a power cut. A reader of one file sees its
// old or its new content and nothing else, for files are replaced by rename(2),
// never written in place. A reader of a directory set that resolves ..data once
// sees one generation of all files.
//
// Plain files have several names, so no system call can switch them at once: for
// the time of a few renames a reader may see a new certificate beside an old
// key. Whoever cannot live with that uses a directory set.
//
// # What it does not do
//
// It does not parse what it stores, and it never puts content in an error, a
// notice, a record or the journal. It does not follow a symbolic link at a
// target. It does not coordinate with other programs that write the same files.
//
// The protocol of a commit is told in commit.go, that of the state directory in
// state.go.
package files

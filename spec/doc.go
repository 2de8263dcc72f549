// Package spec turns YAML into a validated, resolved and immutable [Spec].
//
// [Load] reads files and directories, merges their documents by name, applies
// defaults, profiles, variables and forEach, makes every path absolute and
// checks everything that can be known without touching a certificate. It
// reports all problems of a run together, each with its place, so that a user
// mends a spec in one round.
//
// A spec is one or more files. Every document states apiVersion; sections of
// the same name in several documents are one section, whichever file they
// stand in: defaults in one file of a directory apply to the certificates of
// all. Stating the same thing twice is a problem that names both places.
//
// One table of fields per mapping (see table) drives the decoder, the messages
// about unknown fields, the JSON Schema ([Schema]) and the list of fields
// ([Fields]), so that they cannot disagree.
//
// The package reads the spec's own files, and looks at targets only as far as it
// takes to tell whether two of them are the same file. It reads no key, no
// certificate and no password, asks no clock, writes nothing and logs nothing.
// It is the only one that knows YAML.
package spec

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/cmd/certsync/internal/handshake"
	"github.com/certsync/certsync/spec"
)

// maxCompletion is how large, in bytes, a spec may be for names to be completed
// from it: whoever presses a key does not want to wait.
const maxCompletion = 1 << 20

// complete adds what shells complete: names of certificates as arguments and for
// --replace and --as, the formats of -o, specs for -f. The command that prints the shells'
// scripts, completion, is cobra's own.
func (a *app) complete(cmd *cobra.Command) {
	named := strings.Contains(cmd.Use, "NAME…")
	if named {
		cmd.ValidArgsFunction = a.completeNames
	} else if cmd.ValidArgsFunction == nil && !strings.Contains(cmd.Use, "FILE") {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	// An error tells that there is no such flag, or that it is completed already.
	_ = cmd.RegisterFlagCompletionFunc("replace", a.completeNames)
	_ = cmd.RegisterFlagCompletionFunc("as", a.completeNames)
	_ = cmd.RegisterFlagCompletionFunc("starttls", cobra.FixedCompletions(handshake.StartTLSProtocols, cobra.ShellCompDirectiveNoFileComp))
	if f := cmd.Flags().Lookup("output"); f != nil {
		formats := strings.FieldsFunc(strings.ReplaceAll(f.Usage, " or ", ","), func(r rune) bool { return r == ',' || r == ' ' })
		_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	}
}

// completeNames offers the names in the spec. It is silent on errors.
func (a *app) completeNames(_ *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	sp := a.quietLoad()
	if sp == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for c := range sp.All() {
		if strings.HasPrefix(c.Name, prefix) && !slices.Contains(args, c.Name) {
			names = append(names, cobra.CompletionWithDesc(c.Name, string(c.Kind)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// quietLoad is load without a word, and without the patience: nil for a spec
// that is wrong or large.
func (a *app) quietLoad() *spec.Spec {
	paths := a.specs
	if len(paths) == 0 {
		paths = []string{defaultSpec()}
	}
	var size int64
	for _, path := range paths {
		files := []string{path}
		if entries, err := os.ReadDir(path); err == nil {
			files = nil
			for _, e := range entries {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		for _, f := range files {
			if info, err := os.Stat(f); err == nil {
				size += info.Size()
			}
		}
	}
	if size > maxCompletion {
		return nil
	}
	set := make(map[string]string, len(a.set))
	for _, assignment := range a.set {
		name, value, _ := strings.Cut(assignment, "=")
		set[name] = value
	}
	sp, err := spec.Load(paths, spec.Options{Set: set})
	if err != nil {
		return nil
	}
	return sp
}

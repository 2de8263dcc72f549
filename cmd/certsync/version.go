package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/cmd/certsync/internal/view"
)

// version is set by release builds: -ldflags "-X main.version=v1.2.3".
var version string

// buildInfo is what version tells.
type buildInfo struct {
	FormatVersion int    `json:"formatVersion"`
	Version       string `json:"version"`
	Revision      string `json:"revision,omitempty"`
	Time          string `json:"time,omitempty"`
	Modified      bool   `json:"modified"`
	Go            string `json:"go"`
	Platform      string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			built, _ := debug.ReadBuildInfo()
			b := newBuildInfo(version, built)
			if format == "json" {
				return view.JSON(a.stdout, b)
			}
			_, err := fmt.Fprintln(a.stdout, b)
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return cmd
}

// newBuildInfo gathers what the build tells; built may be nil.
func newBuildInfo(version string, built *debug.BuildInfo) buildInfo {
	b := buildInfo{FormatVersion: 1, Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if built != nil {
		if b.Version == "" {
			b.Version = built.Main.Version
		}
		for _, s := range built.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Revision = s.Value
			case "vcs.time":
				b.Time = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	return b
}

// String returns "certsync v1.2.3 (1a2b3c4d5e6f, 2026-01-02T15:04:05Z) go1.26.0 linux/amd64".
func (b buildInfo) String() string {
	vcs := ""
	if b.Revision != "" {
		vcs = " (" + b.Revision[:min(12, len(b.Revision))]
		if b.Time != "" {
			vcs += ", " + b.Time
		}
		if b.Modified {
			vcs += ", modified"
		}
		vcs += ")"
	}
	return fmt.Sprintf("certsync %s%s %s %s", b.Version, vcs, b.Go, b.Platform)
}

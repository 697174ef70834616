package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the linker: -ldflags '-X main.version=v1.2.3 -X main.revision=…'.
var (
	version  string // the release
	revision string // of the source, where it is built without its repository, as the image is
)

// build says which program this is.
type build struct {
	Version   string `json:"version"`  // of the release, or "(devel)"
	Revision  string `json:"revision"` // of the source; ends in "-dirty" if that was changed, "" when not known
	GoVersion string `json:"goVersion"`
	Platform  string `json:"platform"` // such as linux/amd64
}

// thisBuild is the build that is running.
func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return buildOf(version, revision, info)
}

func buildOf(release, linked string, info *debug.BuildInfo) build {
	b := build{Version: release, GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	changed := false
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			changed = setting.Value == "true"
		}
	}
	if changed && b.Revision != "" {
		b.Revision += "-dirty"
	}
	if b.Revision == "" {
		b.Revision = linked
	}
	return b
}

func newVersionCommand(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `Prints the version of this program, the revision of its source, and the Go version and platform that it was
built for. A server tells its own at /version.`,
		Example: `  omni-secrets version
  omni-secrets version -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if s.json() {
				return s.printValue(b)
			}
			if b.Revision == "" {
				b.Revision = "unknown"
			}
			return s.print("omni-secrets %s\nrevision %s\n%s %s\n", b.Version, b.Revision, b.GoVersion, b.Platform)
		},
	}
}

package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	process{}.run(t, "version").want(t, exitOK, "omni-secrets "+thisBuild().Version, "revision ", runtime.Version())
	o := process{}.run(t, "version", "-o", "json")
	var got build
	if err := json.Unmarshal([]byte(o.out), &got); err != nil || got != thisBuild() {
		t.Errorf("%v: %s", err, o.out)
	}
}

func TestBuildOf(t *testing.T) {
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: modified}}
	}
	for _, tc := range []struct {
		name              string
		release, linked   string
		info              debug.BuildInfo
		version, revision string
	}{
		{"linker's version wins", "v1.2.3", "", debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}, Settings: vcs("false")}, "v1.2.3", "abc"},
		{"module's version", "", "", debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}, Settings: vcs("true")}, "v1.0.0", "abc-dirty"},
		{"the repository's revision wins", "", "def", debug.BuildInfo{Settings: vcs("true")}, "(devel)", "abc-dirty"},
		{"linker's revision, where there was no repository", "dev", "def", debug.BuildInfo{}, "dev", "def"},
		{"nothing known", "", "", debug.BuildInfo{}, "(devel)", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if b := buildOf(tc.release, tc.linked, &tc.info); b.Version != tc.version || b.Revision != tc.revision {
				t.Errorf("%+v", b)
			}
		})
	}
}

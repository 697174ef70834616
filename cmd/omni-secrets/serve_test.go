package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPortThatIsTakenNamesItsSetting(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().String()
	for _, setting := range []string{"OMNI_LISTEN", "OMNI_METRICS_LISTEN", "OMNI_DEBUG_LISTEN"} {
		t.Run(setting, func(t *testing.T) {
			dir := t.TempDir()
			p := process{env: map[string]string{
				"DATABASE_URL": "sqlite:" + filepath.Join(dir, "state.db"), "GCP_PROJECT_ID": "test", "JWT_SECRET": strings.Repeat("x", 32),
				"OMNI_GSM_ENDPOINT": "127.0.0.1:1", "OMNI_LISTEN": "127.0.0.1:0", "OMNI_AUDIT_JOURNAL_DIR": filepath.Join(dir, "journal"),
			}}
			p.run(t, "migrate", "up").want(t, exitOK)
			p.env[setting] = taken
			p.run(t, "serve").want(t, exitFailure, "another process listens on "+taken, "next: stop it, or choose another address with "+setting+"\n")
		})
	}
	process{}.run(t, "dev", "--listen", taken, "--data-dir", filepath.Join(t.TempDir(), "dev")).
		want(t, exitFailure, "another process listens on "+taken, "choose another address with --listen\n")
}

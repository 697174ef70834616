package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A path with a slip in it is told of, and not made: an empty database there would look like one that lost everything.
func TestADatabaseFileThatIsNotThere(t *testing.T) {
	for _, command := range []string{"migrate status", "serve"} {
		t.Run(command, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "oops", "state.db")
			p := process{env: map[string]string{
				"DATABASE_URL": "sqlite:" + file, "GCP_PROJECT_ID": "test", "JWT_SECRET": strings.Repeat("x", 32),
				"OMNI_LISTEN": "127.0.0.1:0", "OMNI_AUDIT_JOURNAL_DIR": filepath.Join(dir, "journal"),
			}}
			p.run(t, strings.Fields(command)...).want(t, exitFailure, "there is no database file "+file,
				"next: check the path in DATABASE_URL; 'omni-secrets migrate up' makes the file")
			if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
				t.Errorf("it made %v, %v", made, err)
			}
		})
	}
}

func TestMigrateStatusChangesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "state.db")
	p := process{env: map[string]string{"DATABASE_URL": "sqlite:" + file}}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t, "migrate", "status").want(t, exitOK, "00001_initial.sql", "pending")
	if about, err := os.Stat(file); err != nil || about.Size() > 0 {
		t.Errorf("the empty file was written to: %v, %v", about, err)
	}
	p.run(t, "migrate", "up").want(t, exitOK, "applied 00001_initial.sql")
	o := p.run(t, "migrate", "status")
	o.want(t, exitOK, "00001_initial.sql")
	if strings.Contains(o.out, "pending") {
		t.Error(o.out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

package main

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
)

func TestASecondDevOnADirectorySaysWhereTheFirstIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev")
	c, err := prepareDev(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := journal.Open(journal.Config{Dir: c.JournalDir, Logger: newLogger(t.Output(), 0)}) // which a running server has
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	process{}.run(t, "dev", "--data-dir", dir, "--listen", "127.0.0.1:0").want(t, exitFailure,
		"omni-secrets: a server already runs on "+dir+"\n",
		"next: use it (. "+filepath.Join(dir, "env")+"), or start another with --data-dir DIR --listen 127.0.0.1:0\n")
}

func TestDevFillsNoDirectoryForAnAddressThatCannotBe(t *testing.T) {
	for _, address := range []string{"foo", "127.0.0.1:99999", ""} {
		dir := filepath.Join(t.TempDir(), "dev")
		process{}.run(t, "dev", "--data-dir", dir, "--listen", address).want(t, exitUsage, "--listen", "must be host:port", "next: give one such as 127.0.0.1:8080")
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("--listen %q: the directory is there: %v", address, err)
		}
	}
}

// Whoever reads the guide is on this machine, whatever the server listens on; the command line refuses any other address
// without TLS.
func TestTheGuideGivesAnAddressOfThisMachine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev")
	c, err := prepareDev(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ listen, api string }{
		{"127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"[::1]:8080", "http://[::1]:8080"},
		{"0.0.0.0:8080", "http://127.0.0.1:8080"},
		{"[::]:8080", "http://127.0.0.1:8080"}, // as :8080 is listened on
		{"192.0.2.7:8080", "http://192.0.2.7:8080"},
	} {
		guide, err := writeGuide(c, dir, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tc.listen)))
		if err != nil {
			t.Fatal(err)
		}
		env, err := os.ReadFile(filepath.Join(dir, "env"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(guide, "ready on "+tc.api+" ") || !strings.Contains(string(env), "export API="+tc.api+"\nexport OMNI_API_URL="+tc.api+"\n") {
			t.Errorf("%s:\n%s\n%s", tc.listen, guide, env)
		}
	}
}

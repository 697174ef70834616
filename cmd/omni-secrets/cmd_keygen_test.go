package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
)

func TestKeygen(t *testing.T) {
	o := process{}.run(t, "keygen")
	o.want(t, exitOK)
	lines := regexp.MustCompile(`^# key [0-9a-f]{16}\nexport OMNI_BREAKGLASS_PUBLIC_KEY=(\S+)\nexport OMNI_BREAKGLASS_PRIVATE_KEY=(\S+)\n$`).FindStringSubmatch(o.out)
	if lines == nil {
		t.Fatalf("standard output is not a comment and two lines for a shell (%d bytes)", len(o.out))
	}
	checkPair(t, lines[1], lines[2])
}

func TestKeygenAsJSON(t *testing.T) {
	o := process{}.run(t, "keygen", "-o", "json")
	o.want(t, exitOK)
	var pair struct{ KeyID, PublicKey, PrivateKey string }
	if err := json.Unmarshal([]byte(o.out), &pair); err != nil {
		t.Fatal(err)
	}
	checkPair(t, pair.PublicKey, pair.PrivateKey)
	if public, err := envelope.ParsePublicKey(pair.PublicKey); err != nil || pair.KeyID != public.ID() {
		t.Errorf("the key id is %q", pair.KeyID)
	}
}

func checkPair(t *testing.T, public, private string) {
	t.Helper()
	key, err := envelope.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if key.Public().String() != public {
		t.Error("the two keys are not a pair")
	}
}

func TestKeygenJWTSecret(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		o := process{}.run(t, "keygen", "--jwt-secret")
		o.want(t, exitOK)
		if !regexp.MustCompile(`^# key [0-9a-f]{16}\nexport JWT_SECRET=[A-Za-z0-9_-]{43}\n$`).MatchString(o.out) || seen[o.out] {
			t.Errorf("standard output: %s", o.out)
		}
		seen[o.out] = true
	}
	process{}.run(t, "keygen", "--jwt-secret", "-o", "json").want(t, exitOK, `"jwtSecret":"`)
}

func TestKeygenIntoAFile(t *testing.T) {
	for name, kind := range map[string][]string{"a break-glass key": {}, "a secret for tokens": {"--jwt-secret"}} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys")
			var all []string // of the file, the newest first
			for n := range 3 {
				o := process{}.run(t, append([]string{"keygen", "--into", file}, kind...)...)
				o.want(t, exitOK, "# key ")
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				keys := strings.Fields(string(content))
				if len(keys) != n+1 || strings.Join(keys[1:], " ") != strings.Join(all, " ") {
					t.Fatalf("%d keys after %d calls, or the former ones are not as they were", len(keys), n+1)
				}
				if strings.Contains(o.out, keys[0]) {
					t.Error("what went into the file was printed too")
				}
				all = keys
			}
			about, err := os.Stat(file)
			if err != nil || about.Mode().Perm() != 0o600 {
				t.Errorf("the file: %v, %v", about, err)
			}
			if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
				t.Errorf("other files were left: %v", left)
			}
		})
	}
}

func TestKeygenIntoAFileThatIsNotPrivate(t *testing.T) {
	file := privateFile(t, "key", 0o644)
	process{}.run(t, "keygen", "--into", file).want(t, exitUsage, "--into", "chmod 600")
	if content, _ := os.ReadFile(file); string(content) != "key" {
		t.Errorf("the file was changed to %q", content)
	}
}

package main

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
)

func TestKeygen(t *testing.T) {
	o := process{}.run(t, "keygen")
	o.want(t, exitOK)
	lines := regexp.MustCompile(`^export OMNI_BREAKGLASS_PUBLIC_KEY=(\S+)\nexport OMNI_BREAKGLASS_PRIVATE_KEY=(\S+)\n$`).FindStringSubmatch(o.out)
	if lines == nil {
		t.Fatalf("standard output is not two lines for a shell (%d bytes)", len(o.out))
	}
	checkPair(t, lines[1], lines[2])
}

func TestKeygenAsJSON(t *testing.T) {
	o := process{}.run(t, "keygen", "-o", "json")
	o.want(t, exitOK)
	var pair struct{ PublicKey, PrivateKey string }
	if err := json.Unmarshal([]byte(o.out), &pair); err != nil {
		t.Fatal(err)
	}
	checkPair(t, pair.PublicKey, pair.PrivateKey)
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
		if !regexp.MustCompile(`^export JWT_SECRET=[A-Za-z0-9_-]{43}\n$`).MatchString(o.out) || seen[o.out] {
			t.Errorf("standard output: %s", o.out)
		}
		seen[o.out] = true
	}
	process{}.run(t, "keygen", "--jwt-secret", "-o", "json").want(t, exitOK, `"jwtSecret":"`)
}

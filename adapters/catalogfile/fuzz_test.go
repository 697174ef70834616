package catalogfile_test

import (
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/apex-tradebill/omni-secrets/adapters/catalogfile"
)

// What is parsed is what the plainest reading of the YAML finds: the same secrets in the same order, with the same owner,
// backend, version and period, and the reference with its variables filled in. And a file means the same every time.
func FuzzPlainReading(f *testing.F) {
	f.Add(catalogfile.Default())
	f.Fuzz(func(t *testing.T, text []byte) {
		lookup := env("GCP_PROJECT_ID", "apex")
		catalog, err := catalogfile.Parse(text, lookup)
		again, errAgain := catalogfile.Parse(text, lookup)
		if (err == nil) != (errAgain == nil) || len(catalog) != len(again) {
			t.Fatalf("parsed twice: %v, %v", err, errAgain)
		}
		if err != nil {
			if errAgain.Error() != err.Error() {
				t.Errorf("refused by %v, then by %v", err, errAgain)
			}
			return
		}
		var plain struct {
			Secrets []map[string]any `yaml:"secrets"`
		}
		if err := yaml.Unmarshal(text, &plain); err != nil || len(plain.Secrets) != len(catalog) {
			t.Fatalf("parsed %d secrets, and plainly %d, %v", len(catalog), len(plain.Secrets), err)
		}
		for i, e := range catalog {
			s := plain.Secrets[i]
			reference, _ := s["reference"].(string)
			reference = strings.ReplaceAll(reference, "${GCP_PROJECT_ID}", "apex")
			if s["type"] != string(e.Type) || s["owner"] != e.Owner || s["backend"] != e.Backend || reference != e.Reference ||
				!sameText(s["version"], e.Version) || s["rotationMonths"] != e.RotationMonths {
				t.Errorf("secret %d is parsed as %+v, and plainly is %v", i, e, s)
			}
		}
	})
}

// sameText compares what may be written with or without quotes.
func sameText(plain any, text string) bool {
	if n, ok := plain.(int); ok {
		read, err := strconv.ParseInt(text, 0, 64)
		return err == nil && int(read) == n
	}
	return plain == text
}

package gsm

import (
	"strings"
	"testing"
)

func TestValidateReference(t *testing.T) {
	for _, c := range []struct {
		reference string
		wrong     string // in the error; "" when it is right
	}{
		{"projects/omni-dev/secrets/apex-omni-trading-api-key", ""},
		{"projects/dev/secrets/key", ""},
		{"projects/123456789012/secrets/API_key-1", ""},
		{"projects/example.com:omni-dev/secrets/key", ""},
		{"projects/omni-dev/locations/europe-west3/secrets/key", ""},
		{"projects/omni-dev/secrets/" + strings.Repeat("k", 255), ""},
		{"", "must be projects/PROJECT/secrets/SECRET"},
		{"apex-omni-trading-api-key", "must be projects/PROJECT/secrets/SECRET"},
		{"/projects/omni-dev/secrets/key", "must be projects/PROJECT/secrets/SECRET"},
		{"projects/omni-dev/secrets/key/", "must be projects/PROJECT/secrets/SECRET"},
		{"projects/omni-dev/secret/key", "must be projects/PROJECT/secrets/SECRET"},
		{"projects/omni-dev/secrets/key/versions/3", "the version does not belong into the reference"},
		{"projects//secrets/key", `project "" must be`},
		{"projects/$GCP_PROJECT_ID/secrets/key", `project "$GCP_PROJECT_ID" must be`},
		{"projects/Omni-Dev/secrets/key", `project "Omni-Dev" must be`},
		{"projects/omni-dev-/secrets/key", `project "omni-dev-" must be`},
		{"projects/7up/secrets/key", `project "7up" must be`},
		{"projects/omni-dev/secrets/", `secret "" must be`},
		{"projects/omni-dev/secrets/api.key", `secret "api.key" must be`},
		{"projects/omni-dev/secrets/key\n", `must be 1 to 255`},
		{"projects/omni-dev/secrets/" + strings.Repeat("k", 256), "must be 1 to 255"},
		{"projects/omni-dev/locations//secrets/key", `location "" must be`},
		{"projects/omni-dev/locations/evil.example/secrets/key", `location "evil.example" must be`},
		{"projects/omni-dev/locations/europe-west3-/secrets/key", `location "europe-west3-" must be`},
	} {
		t.Run(c.reference, func(t *testing.T) {
			err := ValidateReference(c.reference)
			if c.wrong == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("the error is %v, want one with %q", err, c.wrong)
			}
		})
	}
}

func FuzzReference(f *testing.F) {
	for _, seed := range []string{
		"projects/omni-dev/secrets/key", "projects/omni-dev/locations/europe-west3/secrets/key",
		"projects/1/secrets/key/versions/3", "projects/omni-dev/locations/a.b/secrets/key", "", "/////",
	} {
		f.Add(seed, "7")
	}
	f.Fuzz(func(t *testing.T, reference, version string) {
		ref, err := parseReference(reference)
		if err != nil || checkVersion(version) != nil {
			return
		}
		name := ref.name(version)
		if name != reference+"/versions/"+version || strings.ContainsAny(name, " \n\x00?#%") {
			t.Errorf("%q in version %q became %q", reference, version, name)
		}
		if strings.ContainsAny(ref.location, "./:") {
			t.Errorf("the location %q could lead to another host", ref.location)
		}
		if got, err := ref.versionIn(name); err == nil && got != version {
			t.Errorf("the version in %q is read as %q", name, got)
		}
	})
}

func FuzzVersionIn(f *testing.F) {
	for _, seed := range []string{"projects/1/secrets/key/versions/3", "projects/omni-dev/secrets/key/versions/latest", "", "/", "/versions/1"} {
		f.Add(seed)
	}
	ref := reference{project: "omni-dev", secret: "key"}
	f.Fuzz(func(t *testing.T, name string) {
		version, err := ref.versionIn(name)
		if err == nil && (!numberPattern.MatchString(version) || !strings.HasSuffix(name, "/secrets/key/versions/"+version)) {
			t.Errorf("%q is read as version %q of the secret", name, version)
		}
	})
}

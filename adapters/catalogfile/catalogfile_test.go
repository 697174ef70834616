package catalogfile_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/catalogfile"
	"github.com/apex-tradebill/omni-secrets/domain"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestDefaultCatalog(t *testing.T) {
	got, err := catalogfile.Parse(catalogfile.Default(), env("GCP_PROJECT_ID", "apex-prod"))
	if err != nil {
		t.Fatal(err)
	}
	want := func(t domain.SecretType, owner, name string) domain.Entry {
		return domain.Entry{
			Type: t, Owner: owner, Backend: "gsm", Reference: "projects/apex-prod/secrets/apex-omni-" + name,
			Version: domain.LatestVersion, RotationMonths: 12,
		}
	}
	if diff := cmp.Diff(domain.Catalog{
		want("trading_api_key", "Security Engineering", "trading-api-key"),
		want("trading_client_secret", "Security Engineering", "trading-client-secret"),
		want("trading_api_passphrase", "Security Engineering", "trading-api-passphrase"),
		want("zk_signing_seed", "Security Engineering", "zk-signing-seed"),
		want("webhook_shared_secret", "Platform Reliability", "webhook-shared-secret"),
	}, got); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
}

func TestDefaultIsACopy(t *testing.T) {
	catalogfile.Default()[0] = 'x'
	if catalogfile.Default()[0] == 'x' {
		t.Error("a caller changed the embedded file")
	}
}

func TestEveryField(t *testing.T) {
	got, err := catalogfile.Parse([]byte(`
secrets:
  - type: api_key
    owner: Payments
    backend: local_file
    reference: api_key
    version: 7
    rotationMonths: 6
    readers: [pricing-*, "gateway"]
    policy:
      ttl: 90s
      maxStale: 1h30m
      deniedGrace: 1m
    validators:
      - format: {pattern: "^[A-Za-z0-9]+$", minLength: 32, maxLength: 64, encoding: hex, decodedLength: 16}
      - webhook: {url: "https://hooks.example.com/omni", timeout: 4s}
      - httpProbe:
          method: POST
          url: https://api.example.com/v1/account
          header: Authorization
          prefix: "Bearer "
          headers: {Accept: application/json}
          encoding: base64
          expectStatus: [200, 204]
          timeout: 10s
      - httpProbe: {url: "http://10.1.2.3/", header: X-API-Key}
`), env())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(domain.Catalog{{
		Type: "api_key", Owner: "Payments", Backend: "local_file", Reference: "api_key", Version: "7", RotationMonths: 6,
		Readers: []string{"pricing-*", "gateway"},
		TTL:     90 * time.Second, MaxStale: 90 * time.Minute, DeniedGrace: time.Minute,
		Validators: []domain.Validator{
			{Format: &domain.FormatRule{Pattern: "^[A-Za-z0-9]+$", MinLength: 32, MaxLength: 64, Encoding: "hex", DecodedLength: 16}},
			{Webhook: &domain.WebhookRule{URL: "https://hooks.example.com/omni", Timeout: 4 * time.Second}},
			{HTTPProbe: &domain.HTTPProbeRule{
				Method: "POST", URL: "https://api.example.com/v1/account", Header: "Authorization", Prefix: "Bearer ",
				Headers: map[string]string{"Accept": "application/json"}, Encoding: "base64", ExpectStatus: []int{200, 204}, Timeout: 10 * time.Second,
			}},
			{HTTPProbe: &domain.HTTPProbeRule{URL: "http://10.1.2.3/", Header: "X-API-Key"}},
		},
	}}, got); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
}

// file is a catalog of one good entry, with lines added to the entry.
func file(lines ...string) string {
	text := "secrets:\n  - type: api_key\n    owner: Payments\n    backend: gsm\n    version: latest\n    rotationMonths: 12\n"
	for _, line := range lines {
		text += "    " + line + "\n"
	}
	return text
}

func TestReferences(t *testing.T) {
	for name, c := range map[string]struct{ reference, want string }{
		"without a variable":      {"projects/p/secrets/s", "projects/p/secrets/s"},
		"with the project":        {"projects/${GCP_PROJECT_ID}/secrets/s", "projects/example.com:apex-1/secrets/s"},
		"with the project, twice": {"${GCP_PROJECT_ID}/${GCP_PROJECT_ID}", "example.com:apex-1/example.com:apex-1"},
		"regional":                {"projects/p/locations/europe-west1/secrets/s", "projects/p/locations/europe-west1/secrets/s"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := catalogfile.Parse([]byte(file("reference: "+c.reference)), env("GCP_PROJECT_ID", "example.com:apex-1"))
			if err != nil {
				t.Fatal(err)
			}
			if got[0].Reference != c.want {
				t.Errorf("reference is %q, want %q", got[0].Reference, c.want)
			}
		})
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	good := file("reference: r")
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":                     {"", []string{"the file is empty"}},
		"comments alone":            {"# nothing\n", []string{"the file is empty"}},
		"no YAML":                   {"secrets: [", []string{"catalog: line 1:"}},
		"no secrets":                {"secrets: []\n", []string{"it lists no secrets"}},
		"a list":                    {"- type: x\n", []string{"line 1: cannot unmarshal"}},
		"an empty item":             {good + "  -\n", []string{"line 8: a value is missing"}},
		"readers without a value":   {file("reference: r", "readers:"), []string{"line 8: a value is missing"}},
		"a reader without a value":  {file("reference: r", "readers: [~]"), []string{"line 8: a value is missing"}},
		"a second document":         {good + "---\n" + good, []string{"line 8: a second document"}},
		"a broken second document":  {good + "---\n]\n", []string{"catalog: line 8:"}},
		"an unknown field":          {file("reference: r", "onwer: x"), []string{"line 8: field onwer not found"}},
		"an unknown field on top":   {good + "version: 1\n", []string{"line 8: field version not found"}},
		"an unknown policy":         {file("reference: r", "policy: {refresh: 5m}"), []string{"line 8: field refresh not found"}},
		"a field in another case":   {file("Reference: r"), []string{"line 7: field Reference not found"}},
		"a field twice":             {file("reference: r", "owner: Other"), []string{`line 8: mapping key "owner" already defined at line 3`}},
		"secrets twice":             {good + good, []string{`mapping key "secrets" already defined at line 1`}},
		"a number as text":          {strings.Replace(good, "12", "twelve", 1), []string{`line 6: "twelve" is not a whole number`}},
		"a month and a half":        {strings.Replace(good, "12", "1.5", 1), []string{`line 6: "1.5" is not a whole number`}},
		"readers as text":           {file("reference: r", "readers: me"), []string{"line 8: cannot unmarshal"}},
		"a duration without a unit": {file("reference: r", "policy:", "  ttl: 300"), []string{`line 9: "300" is not a positive duration`}},
		"a duration of zero":        {file("reference: r", "policy: {maxStale: 0s}"), []string{`line 8: "0s" is not a positive duration`}},
		"a negative duration":       {file("reference: r", "policy: {deniedGrace: -1s}"), []string{"is not a positive duration"}},
		"a list for a duration":     {file("reference: r", "policy: {ttl: [5m]}"), []string{"is not a positive duration"}},
		"validators as text":        {file("reference: r", "validators: none"), []string{"line 8: cannot unmarshal !!str `none`"}},
		"an unknown validator":      {file("reference: r", "validators:", "  - formt: {minLength: 1}"), []string{"line 9: field formt not found"}},
		"an unknown rule":           {file("reference: r", "validators:", "  - format: {minLenght: 1}"), []string{"line 9: field minLenght not found"}},
		"a timeout of zero":         {file("reference: r", "validators:", "  - webhook:", "      timeout: 0s"), []string{`line 10: "0s" is not a positive duration`}},
		"a status as text":          {file("reference: r", "validators:", "  - httpProbe: {expectStatus: [ok, 200.5]}"), []string{`line 9: "ok" is not a whole number`, `line 9: "200.5" is not a whole number`}},
		"no rule":                   {file("reference: r", "validators: [{}]"), []string{"validator 1: it must be exactly one of format, webhook and httpProbe (line 2)"}},
		"a rule without a value":    {file("reference: r", "validators: [{format: }]"), []string{"line 8: a value is missing"}},
		"two rules in one":          {file("reference: r", "validators: [{format: {minLength: 1}, webhook: {url: 'https://h/'}}]"), []string{"validator 1: it must be exactly one"}},
		"several wrong rules":       {file("reference: r", "validators: [{format: {pattern: '('}}, {webhook: {timeout: 11s}}]"), []string{"validator 1: pattern: missing closing )", "validator 2: url is missing (line 2)", "validator 2: timeout is 11s"}},
		"no reference":              {file(), []string{"entry 1 (api_key): reference is missing (line 2)"}},
		"a type twice":              {good + strings.TrimPrefix(good, "secrets:\n"), []string{"entry 2 (api_key): type is listed twice (line 8)"}},
		"another variable":          {file("reference: projects/${HOME}/s"), []string{"line 2: reference holds ${HOME}; only ${GCP_PROJECT_ID}"}},
		"a variable without braces": {file("reference: projects/$GCP_PROJECT_ID/s"), []string{"write ${GCP_PROJECT_ID}"}},
		"an open variable":          {file("reference: projects/${GCP_PROJECT_ID"), []string{"write ${GCP_PROJECT_ID}"}},
		"too large":                 {good + "#" + strings.Repeat("x", catalogfile.MaxBytes), []string{"larger than 4194304 bytes"}},
		"too many secrets":          {"secrets: [" + strings.Repeat("{},", catalogfile.MaxSecrets+1) + "]", []string{"lists 10001 secrets; 10000 are allowed"}},
		"very many errors":          {"secrets: [" + strings.Repeat("{},", 1000) + "]", []string{"entry 1 ()", "catalog: and 6899 more"}},
		"several errors of form": {
			file("reference: r", "onwer: x", "policy: {ttl: soon}"),
			[]string{"line 8: field onwer", `line 9: "soon"`},
		},
		"several errors of content": {
			"secrets:\n  - type: Bad\n  - type: api_key\n    rotationMonths: 999\n    reference: ${HOME}\n",
			[]string{
				`entry 1 (Bad): type "Bad" must match`, "entry 1 (Bad): owner is missing (line 2)", "entry 1 (Bad): reference is missing (line 2)",
				"entry 2 (api_key): backend is missing (line 3)", "rotationMonths is 999", "${HOME}",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := catalogfile.Parse([]byte(c.text), env("HOME", "/root", "GCP_PROJECT_ID", "apex"))
			if err == nil {
				t.Fatalf("parsed as %+v", got)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is\n%v\nwant one with %q", err, want)
				}
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "catalog: ") {
					t.Errorf("a line of the error does not begin with catalog: %q", line)
				}
			}
			if strings.Contains(err.Error(), "catalogfile.") {
				t.Errorf("the error names Go types: %v", err)
			}
		})
	}
}

func TestProjectThatIsNotSet(t *testing.T) {
	_, err := catalogfile.Parse(catalogfile.Default(), env())
	if err == nil {
		t.Fatal("want an error")
	}
	if want := "catalog: GCP_PROJECT_ID is not set; set it to the Google Cloud project of the secrets on lines "; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error is %q, want it to begin with %q", err, want)
	}
	if n := strings.Count(err.Error(), "\n"); n != 0 {
		t.Errorf("one cause is reported %d times", n+1)
	}
}

func TestProjectThatPointsElsewhere(t *testing.T) {
	for _, project := range []string{"p/secrets/other", "p q", "../p", "${HOME}", "P", "000000000a", "a-"} {
		t.Run(project, func(t *testing.T) {
			_, err := catalogfile.Parse(catalogfile.Default(), env("GCP_PROJECT_ID", project))
			if want := fmt.Sprintf("GCP_PROJECT_ID is %q, which is no Google Cloud project id", project); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want one with %q", err, want)
			}
		})
	}
}

// Whatever is parsed is a valid catalog without variables, or refused.
func FuzzParse(f *testing.F) {
	f.Add(catalogfile.Default())
	for _, seed := range []string{
		"", "secrets: []", file("reference: r"), file("reference: ${X}", "policy: {ttl: 5m}"),
		file("reference: r", "validators: [{format: {pattern: '^a+$', encoding: hex}}, {httpProbe: {url: 'https://h/', header: X, headers: {A: b}}}]"), "a: &a [*a]", "secrets: &s\n- <<: *s", "---\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		catalog, err := catalogfile.Parse(text, env("GCP_PROJECT_ID", "apex"))
		if err != nil {
			if catalog != nil {
				t.Error("a refused file has a catalog")
			}
			return
		}
		if err := catalog.Validate(); err != nil {
			t.Error(err)
		}
		for _, e := range catalog {
			if strings.Contains(e.Reference, "$") {
				t.Errorf("reference %q holds a variable", e.Reference)
			}
		}
	})
}

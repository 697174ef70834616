package validator_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/validator"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// received is what a receiver of one webhook got.
type received struct {
	request               *http.Request
	signature, body, full string
}

func receive(t *testing.T) received {
	t.Helper()
	p := newPeer(t, answering(204)).secure()
	v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}, RootCAs: p.trust()})
	rule := domain.Validator{Webhook: &domain.WebhookRule{URL: p.URL + "/omni?x=y"}}
	if err := v.Validate(t.Context(), rule, candidate); err != nil {
		t.Fatal(err)
	}
	return received{p.got[0], p.got[0].Header.Get(validator.SignatureHeader), p.body[0], p.raw[0]}
}

var signature = regexp.MustCompile(`^t=([0-9]+),v1=([0-9a-f]{64})$`)

// genuine verifies as docs/api.md tells receivers to.
func genuine(header, body, key string) bool {
	parts := signature.FindStringSubmatch(header)
	if parts == nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(parts[1] + "." + body))
	sent, err := hex.DecodeString(parts[2])
	return err == nil && hmac.Equal(sent, mac.Sum(nil))
}

func TestWebhook(t *testing.T) {
	before := time.Now().Truncate(time.Second)
	r := receive(t)
	if r.request.Method != http.MethodPost || r.request.RequestURI != "/omni?x=y" || r.request.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %s with %v", r.request.Method, r.request.RequestURI, r.request.Header)
	}
	var body map[string]string
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z", body["requestedAt"])
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("requestedAt is %s, %v", body["requestedAt"], err)
	}
	if len(body) != 4 || body["secretType"] != "webhook_shared_secret" || body["version"] != "8" || len(body["nonce"]) < 26 {
		t.Errorf("the body is %s", r.body)
	}
	if want := "t=" + strconv.FormatInt(at.Unix(), 10) + ","; !strings.HasPrefix(r.signature, want) {
		t.Errorf("the signature is %s, want it to begin with %s", r.signature, want)
	}
}

func TestReceiverVerifiesWithTheCandidate(t *testing.T) {
	r := receive(t)
	if !genuine(r.signature, r.body, secret) {
		t.Errorf("%s is no signature of %s", r.signature, r.body)
	}
	if genuine(r.signature, r.body, "the value that is served now") || genuine(r.signature, r.body+" ", secret) {
		t.Error("the signature fits another value or body")
	}
}

func TestWebhookHoldsNoValue(t *testing.T) {
	r := receive(t)
	for _, form := range spellings(secret) {
		if strings.Contains(r.full, form) {
			t.Errorf("the request holds %q:\n%s", form, r.full)
		}
	}
}

func TestNoncesDiffer(t *testing.T) {
	nonce := func() string {
		_, text, _ := strings.Cut(receive(t).body, `"nonce":`)
		return text
	}
	if a, b := nonce(), nonce(); a == b {
		t.Errorf("sent twice: %s", a)
	}
}

// TestSignatureInTheAPIDocument runs the receiver's script of docs/api.md, on its own example and on a real webhook.
func TestSignatureInTheAPIDocument(t *testing.T) {
	for _, program := range []string{"bash", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(program + " is missing; .ci/run should have installed it")
			}
			t.Skip(program + " is needed to try the document; apt-get install " + program)
		}
	}
	document, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(document), "\n## Webhooks of a rotation\n")
	_, script, _ := strings.Cut(section, "```sh\n")
	script, _, found := strings.Cut(script, "```\n")
	if !found {
		t.Fatal("there is no script in the section on webhooks")
	}
	r := receive(t)
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte(r.body), 0o600); err != nil {
		t.Fatal(err)
	}
	script += `
verify "$SECRET" "$SIGNATURE" < "$BODY" && echo the real one
verify "another" "$SIGNATURE" < "$BODY" || echo refused`
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Env = append(os.Environ(), "SECRET="+secret, "SIGNATURE="+r.signature, "BODY="+file)
	out, err := cmd.CombinedOutput()
	if want := "genuine\nthe real one\nrefused\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

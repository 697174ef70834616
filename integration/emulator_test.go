package integration_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// emulator is a running gsm-emulator with a value for every secret of the default catalog.
type emulator struct {
	*program
	endpoint string // of the gRPC server
	control  string
	values   map[domain.SecretType]string
}

var catalogTypes = []domain.SecretType{apiKey, "trading_client_secret", "trading_api_passphrase", "zk_signing_seed", webhook}

func secretID(t domain.SecretType) string {
	return "apex-omni-" + strings.ReplaceAll(string(t), "_", "-")
}

func startEmulator(t testing.TB) *emulator {
	t.Helper()
	e := &emulator{values: make(map[domain.SecretType]string)}
	seeds := t.TempDir()
	for _, secret := range catalogTypes {
		e.values[secret] = "gsm-value-of-" + string(secret) + "-v1"
		if err := os.WriteFile(filepath.Join(seeds, secretID(secret)), []byte(e.values[secret]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.program = start(t, nil, "gsm-emulator", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--project", "omni-test", "--seed-dir", seeds)
	ready := regexp.MustCompile(`ready: gRPC on (\S+), control on (\S+)`)
	if !e.stdout.Await(0, patience, func(line string) bool {
		m := ready.FindStringSubmatch(line)
		if m != nil {
			e.endpoint, e.control = m[1], m[2]
		}
		return m != nil
	}) {
		t.Fatalf("the emulator did not get ready:\n%s", e.stderr.Text())
	}
	return e
}

// steer calls the control API.
func (e *emulator) steer(method, path, body string) {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), method, e.control+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode >= 300 {
		e.t.Fatalf("%s %s: %s", method, path, text)
	}
}

func (e *emulator) off(mode string) { e.steer("POST", "/faults", `{"mode":"`+mode+`"}`) }
func (e *emulator) on()             { e.steer("DELETE", "/faults", "") }

// rotate adds a version.
func (e *emulator) rotate(secret domain.SecretType, value string) {
	e.values[secret] = value
	e.steer("PUT", "/secrets/omni-test/"+secretID(secret), value)
}

package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// TestConnectES calls the server as a team with TypeScript would: by a client that Connect-ES generates from the
// contract, over each protocol that it knows. The client (connect-es/main.ts) prints what came.
func TestConnectES(t *testing.T) {
	script := buildConnectES(t)
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint).start(t)
	gsm.steer("POST", "/secrets/omni-test/"+secretID(webhook)+"/versions/1/disable", "")
	s.do("POST", refreshPath, s.service, `{"secretType":"webhook_shared_secret"}`).want(503, domain.CodeRefreshFailed)

	const grpcWeb = "grpc-web" // the server counts it as gRPC
	values := []string{gsm.values[apiKey]}
	for version, protocol := range []string{"connect", "connect-json", "grpc", grpcWeb} {
		version++
		t.Run(protocol, func(t *testing.T) {
			subject, system := "svc-"+protocol, "connectrpc"
			if protocol == "grpc" || protocol == grpcWeb {
				system = "grpc"
			}
			token := sign(t, s.secret, subject, domain.ScopeRead.String(), domain.ScopeCacheRefresh.String())
			s.do("GET", readPath+string(apiKey), token, "").want(200, "")
			s.wantEvents(1, "actor_id = $1", subject) // which the client is to find
			before, after := gsm.values[apiKey], "gsm-value-of-trading_api_key-for-"+protocol
			values = append(values, after)
			watchesLeft := func() string {
				return s.metric("rpc_server_call_duration_seconds_count", "rpc_method", "omni.secrets.v1.SecretsService/WatchSecrets",
					"rpc_response_status_code", "CANCELED", "rpc_system_name", system)
			}
			leftBefore := watchesLeft()

			cmd := exec.CommandContext(context.Background(), "node", script, protocol)
			cmd.Env = append(os.Environ(), "OMNI_API_URL="+s.api, "SERVICE_TOKEN="+token, "OPS_TOKEN="+s.ops)
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			client := startCommand(t, "the TypeScript client", cmd)
			await := func(prefix string) {
				t.Helper()
				if !client.stdout.Await(0, patience, func(line string) bool { return strings.HasPrefix(line, prefix) }) {
					t.Fatalf("no line %q in:\n%s", prefix, client.stdout.Text())
				}
			}
			await("told: keepAlive")
			gsm.rotate(apiKey, after)
			s.do("POST", refreshPath, s.service, "").want(202, "")
			await("watch: ")
			eventually(t, "the server knows that the watch was left", func() bool { return watchesLeft() != leftBefore })
			if err := stdin.Close(); err != nil {
				t.Fatal(err)
			}
			client.wantExit(0)

			served := func(value string, version int) string {
				return fmt.Sprintf("trading_api_key=%s version=%d source=gsm stale=false", value, version)
			}
			want := strings.Join([]string{
				`events: trading_api_key success recorded=true error=undefined next=""`,
				"status: trading_api_key:gsm:string trading_client_secret:gsm:string trading_api_passphrase:gsm:string " +
					"zk_signing_seed:gsm:string webhook_shared_secret:empty:undefined",
				"read: " + served(before, version),
				"refresh: trading_api_key failures=0",
				"read nothing: NotFound UNKNOWN_SECRET_TYPE requestId=true retryAfter=0 failures=[]",
				"read without a token: Unauthenticated UNAUTHENTICATED requestId=true retryAfter=0 failures=[]",
				"refresh what fails: Unavailable REFRESH_FAILED requestId=true retryAfter=1 failures=[webhook_shared_secret:version_disabled]",
				"watch nothing: NotFound UNKNOWN_SECRET_TYPE requestId=true retryAfter=0 failures=[]",
				"told: " + served(before, version),
				"told: keepAlive interval=15",
				"told: " + served(after, version+1),
				"watch: Canceled",
				"read again: " + served(after, version+1),
			}, "\n")
			if diff := cmp.Diff(want, client.stdout.Text()); diff != "" {
				t.Errorf("the client printed (+), not (-):\n%s", diff)
			}
			s.wantEvents(5, "actor_id = $1 AND action = 'read' AND result = 'success'", subject)
		})
	}
	s.stop()
	s.wantNoTrace(values...)
}

// buildConnectES installs, generates, type-checks and compiles the client, outside of the repository, and returns
// the script that node runs.
func buildConnectES(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			skipUnlessCI(t, program+" is needed for the TypeScript client; apt-get install nodejs npm bash")
		}
	}
	dir := t.TempDir()
	for _, name := range []string{".npmrc", "package.json", "package-lock.json", "tsconfig.json", "main.ts"} {
		content, err := os.ReadFile(filepath.Join("connect-es", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tools := filepath.Join(dir, "node_modules", ".bin")
	step := func(in, name string, args ...string) result {
		ctx, cancel := context.WithTimeout(t.Context(), 10*patience) // the first may have to download, the second to build
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = in
		cmd.Env = append(os.Environ(), "PATH="+tools+string(os.PathListSeparator)+os.Getenv("PATH"))
		return finish(t, cmd)
	}
	if r := step(dir, "npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"); r.code != 0 {
		skipUnlessCI(t, "npm cannot install what the TypeScript client needs:\n"+r.stderr)
	}
	step("..", "bash", ".ci/proto", "--with", "integration/connect-es/buf.gen.yaml", dir).want(t, 0)
	step(dir, filepath.Join(tools, "tsc")).want(t, 0)
	return filepath.Join(dir, "dist", "main.js")
}

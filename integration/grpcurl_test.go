package integration_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

// grpcurl is the program, and where its server is.
type grpcurl struct {
	t       testing.TB
	program string
	address string
}

// buildGrpcurl builds the version that tools/go.mod pins.
func buildGrpcurl(t testing.TB, s *server) grpcurl {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience) // it may have to be downloaded
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/go.mod", "-n", "grpcurl")
	cmd.Dir = ".."
	r := finish(t, cmd)
	if r.code != 0 {
		skipUnlessCI(t, "grpcurl cannot be built:\n"+r.stderr)
	}
	return grpcurl{t, strings.TrimSpace(r.stdout), strings.TrimPrefix(s.api, "http://")}
}

// command is a call of a method, or whatever else the last arguments say.
func (g grpcurl) command(ctx context.Context, token, body string, args ...string) *exec.Cmd {
	flags := []string{"-plaintext"}
	if token != "" {
		flags = append(flags, "-H", "authorization: Bearer "+token)
	}
	if body != "" {
		flags = append(flags, "-d", body)
	}
	return exec.CommandContext(ctx, g.program, append(append(flags, g.address), args...)...)
}

func (g grpcurl) run(token, body string, args ...string) result {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	return finish(g.t, g.command(ctx, token, body, args...))
}

// refused is the exit code of grpcurl for a status.
func refused(code codes.Code) int { return 64 + int(code) }

// TestGrpcurl calls the server with what people have at hand, and nothing but its address: it describes itself.
func TestGrpcurl(t *testing.T) {
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint).start(t)
	g := buildGrpcurl(t, s)
	const (
		services    = "grpc.health.v1.Health\nomni.secrets.v1.OpsService\nomni.secrets.v1.SecretsService\n"
		secrets     = "omni.secrets.v1.SecretsService"
		methods     = secrets + ".GetSecret\n" + secrets + ".RefreshCache\n" + secrets + ".WatchSecrets\n"
		getSecret   = secrets + "/GetSecret"
		healthCheck = "grpc.health.v1.Health/Check"
	)

	t.Run("it lists what there is", func(t *testing.T) {
		for of, want := range map[string]string{"": services, secrets: methods} {
			if got := g.run("", "", strings.Fields("list "+of)...).want(t, 0).stdout; got != want {
				t.Errorf("list %s:\n%swant:\n%s", of, got, want)
			}
		}
	})
	t.Run("it describes what there is", func(t *testing.T) {
		for name, part := range map[string]string{
			secrets:                            "rpc WatchSecrets ( .omni.secrets.v1.WatchSecretsRequest ) returns ( stream .omni.secrets.v1.WatchSecretsResponse );",
			"omni.secrets.v1.GetSecretRequest": "string secret_type = 1",
			"omni.secrets.v1.ErrorInfo":        "uint32 retry_after_seconds = 3;",
		} {
			g.run("", "", "describe", name).want(t, 0, part)
		}
	})
	t.Run("a call", func(t *testing.T) {
		r := g.run(s.service, `{"secretType": "trading_api_key"}`, getSecret).want(t, 0)
		var response secretsv1.GetSecretResponse
		if err := protojson.Unmarshal([]byte(r.stdout), &response); err != nil {
			t.Fatal(err)
		}
		if secret := response.GetSecret(); string(secret.GetValue()) != gsm.values[apiKey] || secret.GetVersion() != "1" || secret.GetSource() != "gsm" {
			t.Errorf("another value, or version %q from %q", secret.GetVersion(), secret.GetSource())
		}
	})
	for name, c := range map[string]struct {
		token, secretType string
		code              codes.Code
		info              domain.Code
	}{
		"without a token": {"", "trading_api_key", codes.Unauthenticated, domain.CodeUnauthenticated},
		"without a scope": {s.ops, "trading_api_key", codes.PermissionDenied, domain.CodeForbidden},
		"of nothing":      {s.service, "nothing", codes.NotFound, domain.CodeUnknownSecretType},
		"without a name":  {s.service, "", codes.InvalidArgument, domain.CodeInvalidRequest},
	} {
		t.Run("a call "+name+" is refused", func(t *testing.T) {
			r := g.run(c.token, fmt.Sprintf(`{"secretType": %q}`, c.secretType), getSecret)
			r.want(t, refused(c.code), "Code: "+c.code.String(), "omni.secrets.v1.ErrorInfo", fmt.Sprintf(`"code": %q`, c.info))
		})
	}
	t.Run("its health", func(t *testing.T) {
		for _, service := range []string{"", secrets, "omni.secrets.v1.OpsService"} {
			g.run("", fmt.Sprintf(`{"service": %q}`, service), healthCheck).want(t, 0, `"status": "SERVING"`)
		}
		g.run("", `{"service": "nothing"}`, healthCheck).want(t, refused(codes.NotFound), "Code: NotFound")
	})
	t.Run("a watch, until the server stops", func(t *testing.T) {
		watch := startCommand(t, "grpcurl",
			g.command(context.Background(), s.service, `{"secretTypes": ["trading_api_key"]}`, secrets+"/WatchSecrets"))
		wantLine := func(part string) {
			t.Helper()
			if !watch.stdout.Await(0, patience, func(line string) bool { return strings.Contains(line, part) }) {
				t.Fatalf("no %q in:\n%s\n%s", part, watch.stdout.Text(), watch.stderr.Text())
			}
		}
		value := func(of string) string {
			return fmt.Sprintf(`"value": %q`, base64.StdEncoding.EncodeToString([]byte(of)))
		}
		wantLine(value(gsm.values[apiKey]))
		wantLine(`"intervalSeconds": 15`)
		gsm.rotate(apiKey, "gsm-value-of-trading_api_key-v2")
		s.do("POST", refreshPath, s.service, "").want(202, "")
		wantLine(value("gsm-value-of-trading_api_key-v2"))
		s.stop()
		watch.wantExit(refused(codes.Unavailable))
		if text := watch.stderr.Text(); !strings.Contains(text, string(domain.CodeShuttingDown)) {
			t.Errorf("it ended with:\n%s", text)
		}
	})
}

package connect_test

import (
	"strings"
	"testing"
	"time"

	rpc "connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

// dial connects with Google's gRPC client, which shares no code with the server.
func (f *fixture) dial() *grpc.ClientConn {
	f.t.Helper()
	conn, err := grpc.NewClient(f.server.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestHealthIsReadiness(t *testing.T) {
	f := newFixture(t)
	client := grpc_health_v1.NewHealthClient(f.dial())
	for _, name := range []string{"", "omni.secrets.v1.SecretsService", "omni.secrets.v1.OpsService"} {
		r, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
		if err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", name, r, err)
		}
	}
	if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "nothing"}); status.Code(err) != codes.NotFound {
		t.Errorf("unknown service: %v", err)
	}
	watch, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("first: %v, %v", r, err)
	}
	f.service.EndWatches()
	for { // it may say so before it ends
		r, err := watch.Recv()
		if err != nil {
			break
		}
		if r.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("when stopping: %v", r)
		}
	}
	r, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("when stopping: %v, %v", r, err)
	}
}

func TestReflectionListsTheServices(t *testing.T) {
	f := newFixture(t)
	stream, err := reflection.NewServerReflectionClient(f.dial()).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range r.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if got := strings.Join(names, " "); got != "omni.secrets.v1.SecretsService omni.secrets.v1.OpsService grpc.health.v1.Health" {
		t.Errorf("services: %s", got)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
}

func TestPanicIsAnInternalError(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		_, err := f.ops(p, tokenOps).ApplyBreakGlass(t.Context(), &secretsv1.ApplyBreakGlassRequest{
			SecretType: apiKey, Ciphertext: panics, ExpiresAt: time.Now().Add(time.Minute).Format(time.RFC3339),
		})
		info := wantFailure(t, err, rpc.CodeInternal, domain.CodeInternal)
		if strings.Contains(err.Error(), "on purpose") {
			t.Errorf("the cause is told: %v", err)
		}
		if logs := f.logs.String(); !strings.Contains(logs, "on purpose") || !strings.Contains(logs, info.GetRequestId()) {
			t.Errorf("the cause is not logged under %s: %s", info.GetRequestId(), logs)
		}
	})
}

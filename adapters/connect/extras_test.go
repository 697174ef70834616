package connect_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
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

// google connects with Google's gRPC client, which shares no code with the server.
func (f *fixture) google() *grpc.ClientConn {
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
	client := grpc_health_v1.NewHealthClient(f.google())
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

// A gRPC client with health checks has one watch of its server for as long as it runs, in which nothing is said for days.
func TestHealthWatchMayBeSilent(t *testing.T) {
	eachInMemory(t, func(t *testing.T, f *fixture, p protocol) {
		watch := f.watchHealth(t, f.httpClient(p.http2), p)
		if !watch.Receive() {
			t.Fatal(watch.Err())
		}
		ended := make(chan struct{})
		began := time.Now()
		go func() {
			for watch.Receive() {
			}
			close(ended)
		}()
		select {
		case <-ended:
			t.Fatalf("it ended after %v: %v", time.Since(began), watch.Err())
		case <-time.After(time.Hour):
		}
		f.service.EndWatches()
		<-ended
		if took := time.Since(began); took != time.Hour {
			t.Errorf("it ended %v after the server stopped", took-time.Hour)
		}
	})
}

// Nobody needs a token for one, so that a connection may have a few only.
func TestHealthWatchesOfAConnectionAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newInMemory(t)
		grpc := protocols[3]
		one, another := f.httpClient(true), f.httpClient(true)
		first := f.watchHealth(t, one, grpc)
		for range 15 {
			if watch := f.watchHealth(t, one, grpc); !watch.Receive() {
				t.Fatal(watch.Err())
			}
		}
		if watch := f.watchHealth(t, one, grpc); watch.Receive() || rpc.CodeOf(watch.Err()) != rpc.CodeResourceExhausted {
			t.Errorf("one more: %v", watch.Err())
		}
		if watch := f.watchHealth(t, another, grpc); !watch.Receive() {
			t.Errorf("another connection: %v", watch.Err())
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if watch := f.watchHealth(t, one, grpc); !watch.Receive() {
			t.Errorf("after one has ended: %v", watch.Err())
		}
	})
}

func (f *fixture) watchHealth(t testing.TB, client *http.Client, p protocol) *rpc.ServerStreamForClient[grpc_health_v1.HealthCheckResponse] {
	t.Helper()
	watch, err := rpc.NewClient[grpc_health_v1.HealthCheckRequest, grpc_health_v1.HealthCheckResponse](
		client, f.server.URL+"/grpc.health.v1.Health/Watch", p.options...).CallServerStream(t.Context(), rpc.NewRequest(new(grpc_health_v1.HealthCheckRequest)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Close() })
	return watch
}

func TestReflectionListsTheServices(t *testing.T) {
	f := newFixture(t)
	stream, err := reflection.NewServerReflectionClient(f.google()).ServerReflectionInfo(t.Context())
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

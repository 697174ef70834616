package emulator

import (
	"context"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// Server is the emulated Secret Manager. All methods are safe for concurrent use. A Server serves once: after
// Stop, a new one is needed.
type Server struct {
	grpc   *grpc.Server
	health *health.Server

	mu      sync.Mutex
	secrets map[string]*secret // by full name
	etags   uint64             // how many etags were given out
	faults  []Fault
	calls   map[string]int // by name of the RPC
}

// New returns a server without secrets.
func New() *Server {
	s := &Server{
		health:  health.NewServer(),
		secrets: make(map[string]*secret),
		calls:   make(map[string]int),
	}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	secretmanagerpb.RegisterSecretManagerServiceServer(s.grpc, &service{server: s})
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	s.health.SetServingStatus(secretmanagerpb.SecretManagerService_ServiceDesc.ServiceName,
		grpc_health_v1.HealthCheckResponse_SERVING)
	return s
}

// Serve answers gRPC, without TLS, on l until Stop. It closes l and returns nil after Stop.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Stop ends Serve. Calls in flight are cut off, so that one that was told to hang does not keep the server.
func (s *Server) Stop() {
	s.health.Shutdown()
	s.grpc.Stop()
}

// Calls is how often each RPC of the Secret Manager was called, by its name, such as "AccessSecretVersion".
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// intercept counts the calls of the Secret Manager and applies the faults to them. Health checks pass.
func (s *Server) intercept(ctx context.Context, req any, call *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	method, ok := strings.CutPrefix(call.FullMethod, "/"+secretmanagerpb.SecretManagerService_ServiceDesc.ServiceName+"/")
	if !ok {
		return next(ctx, req)
	}
	s.mu.Lock()
	s.calls[method]++
	s.mu.Unlock()

	faults := s.drawFaults(secretOf(req))
	if err := suffer(ctx, faults); err != nil {
		return nil, err
	}
	resp, err := next(ctx, req)
	if access, ok := resp.(*secretmanagerpb.AccessSecretVersionResponse); ok && err == nil {
		corrupt(access, faults)
	}
	return resp, err
}

// secretOf is the full name of the secret that a request is about, or "" when it is about none.
func secretOf(req any) string {
	var name string
	switch r := req.(type) {
	case *secretmanagerpb.CreateSecretRequest:
		return r.GetParent() + "/secrets/" + r.GetSecretId()
	case *secretmanagerpb.UpdateSecretRequest:
		return r.GetSecret().GetName()
	case *secretmanagerpb.ListSecretsRequest:
		return ""
	case interface{ GetParent() string }:
		name = r.GetParent()
	case interface{ GetName() string }:
		name = r.GetName()
	}
	secret, _, _ := strings.Cut(name, "/versions/")
	return secret
}

// service carries the RPCs, to keep them out of Server's exported methods. What it does not define, IAM
// foremost, is unimplemented.
type service struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer
	server *Server
}

// now is the time as resources carry it.
func now() time.Time { return time.Now().UTC() }

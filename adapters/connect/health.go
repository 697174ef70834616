package connect

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/service"
)

// maxHealthWatches is how many one connection may have: nobody needs a token for them, and they last. A client of gRPC
// has one.
const maxHealthWatches = 16

// health answers the gRPC health protocol (grpc.health.v1) as /readyz does.
type health struct {
	service *service.Service

	mu      sync.Mutex
	watches map[string]int // by the address of the connection
}

var _ grpchealth.Watcher = (*health)(nil)

// Check reports whether the server, or one of its services, is ready.
func (h *health) Check(_ context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	switch r.Service {
	case "", secretsv1connect.SecretsServiceName, secretsv1connect.OpsServiceName:
	default:
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such service here"))
	}
	if len(h.service.NotReady()) > 0 {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// Watch calls onChange when the server gets ready, and when it is about to stop.
func (h *health) Watch(ctx context.Context, r *grpchealth.CheckRequest, onChange func()) (func(), error) {
	if _, err := h.Check(ctx, r); err != nil {
		return nil, err
	}
	leave, err := h.enter(connectionOf(ctx))
	if err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	following.Go(func() {
		if h.service.AwaitFirstFetches(watching) == nil {
			onChange()
		}
		select {
		case <-h.service.Ending().Done():
			onChange()
		case <-watching.Done():
		}
	})
	keepOpen(ctx)
	return func() { cancel(); following.Wait(); leave() }, nil
}

// enter counts a watch of a connection until leave is called.
func (h *health) enter(connection string) (leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watches[connection] == maxHealthWatches {
		return nil, connect.NewError(connect.CodeResourceExhausted, errManyWatches)
	}
	h.watches[connection]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.watches[connection]--; h.watches[connection] == 0 {
			delete(h.watches, connection)
		}
	}, nil
}

var errManyWatches = fmt.Errorf("this connection has %d health watches; end one, or open another connection", maxHealthWatches)

package connect

import (
	"context"
	"errors"
	"sync"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/service"
)

// health answers the gRPC health protocol (grpc.health.v1) as /readyz does.
type health struct{ service *service.Service }

var _ grpchealth.Watcher = health{}

// Check reports whether the server, or one of its services, is ready.
func (h health) Check(_ context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
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
func (h health) Watch(ctx context.Context, r *grpchealth.CheckRequest, onChange func()) (func(), error) {
	if _, err := h.Check(ctx, r); err != nil {
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
	return func() { cancel(); following.Wait() }, nil
}

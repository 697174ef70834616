// Package connect serves the use cases over the Connect, gRPC and gRPC-Web protocols, as proto/omni/secrets/v1
// describes them. What may be done by whom is decided behind it, as for REST.
//
// A call passes, in this order:
//
//	gate          names the request, checks the token: before any of the message is read
//	otelconnect   measures
//	interceptor   checks the scope, turns errors into codes with an ErrorInfo, survives a panic
//	validate      checks the fields' rules
//	the use case
package connect

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"connectrpc.com/otelconnect"
	"connectrpc.com/validate"
	"go.opentelemetry.io/otel/metric"

	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/service"
)

const (
	// MaxMessageBytes is the largest message of a caller, as of a REST body.
	MaxMessageBytes = 128 << 10

	// compressFrom spares small answers, nearly all of them, the compression that most clients offer.
	compressFrom = 4 << 10

	// DefaultKeepAlive is how long a watch may be silent.
	DefaultKeepAlive = 15 * time.Second
)

// Config is what the API is made of. Everything is required unless its comment says otherwise.
type Config struct {
	Service *service.Service
	Meters  metric.MeterProvider // durations of calls
	Logger  *slog.Logger

	KeepAlive time.Duration // of watches; 0 is DefaultKeepAlive
}

type api struct{ Config }

// New returns the handler of everything that Serves names. It is safe for concurrent use.
func New(cfg Config) (http.Handler, error) {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = DefaultKeepAlive
	}
	a := &api{cfg}
	measure, err := otelconnect.NewInterceptor(otelconnect.WithMeterProvider(cfg.Meters), otelconnect.WithoutTracing())
	if err != nil {
		return nil, err
	}
	common := connect.WithHandlerOptions(
		connect.WithReadMaxBytes(MaxMessageBytes),
		connect.WithCompressMinBytes(compressFrom),
		connect.WithCodec(strictJSON{"json"}),
		connect.WithCodec(strictJSON{"json; charset=utf-8"}),
	)
	guarded := connect.WithHandlerOptions(
		common,
		connect.WithRequestGate(a.admit),
		connect.WithInterceptors(measure, &interceptor{a}, validate.NewInterceptor()),
	)

	mux := http.NewServeMux()
	mux.Handle(secretsv1connect.NewSecretsServiceHandler(secrets{a}, guarded))
	mux.Handle(secretsv1connect.NewOpsServiceHandler(ops{a}, guarded))
	mux.Handle(grpchealth.NewHandler(&health{service: cfg.Service, watches: make(map[string]int)}, common))
	reflector := grpcreflect.NewStaticReflector(
		secretsv1connect.SecretsServiceName, secretsv1connect.OpsServiceName, grpchealth.HealthV1ServiceName)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, common))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, common))
	return a.served(mux), nil
}

// Serves reports whether a path is one of the handler's.
func Serves(path string) bool {
	return strings.HasPrefix(path, "/omni.secrets.v1.") || strings.HasPrefix(path, healthAndReflection)
}

package otel

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
)

// other stands for methods and routes that are not told apart.
const other = "_OTHER"

// maxRequestSeries bounds the combinations of labels of requests, should a caller ever give paths as routes.
const maxRequestSeries = 1000

// requestBounds, in seconds, are those of OpenTelemetry's semantic conventions for http.server.request.duration
// (https://opentelemetry.io/docs/specs/semconv/http/http-metrics/), with three below them: reads from memory
// would all fall into the conventions' first.
var requestBounds = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// rpcDurations gives the histogram of OpenTelemetry's semantic conventions for RPC servers, which otelconnect makes,
// its name in Prometheus and our bounds. Its labels are the call, its protocol and the code that it ended with.
var rpcDurations = sdk.NewView(sdk.Instrument{Name: "rpc.server.call.duration"}, sdk.Stream{
	Name:        "rpc_server_call_duration_seconds",
	Aggregation: sdk.AggregationExplicitBucketHistogram{Boundaries: requestBounds},
})

type requestLabels struct {
	method, route string
	status        int
}

func (l requestLabels) recording() []metric.RecordOption {
	return recording(
		attribute.String("http_request_method", l.method),
		attribute.String("http_route", l.route),
		attribute.Int("http_response_status_code", l.status),
	)
}

// ObserveRequest records a request that was answered with status after d. Route is the pattern that the request
// matched, "" when none; never a path, which may hold anything.
func (m *Metrics) ObserveRequest(method, route string, status int, d time.Duration) {
	labels := requestLabels{knownMethod(method), route, status}
	known := m.requestSeries.all()
	recording, ok := known[labels]
	if !ok {
		if len(known) >= maxRequestSeries {
			labels.route = other
		}
		recording = m.requestSeries.of(labels)
	}
	m.requests.Record(context.Background(), d.Seconds(), recording...)
}

// knownMethod keeps clients from making up series. The methods are those of the semantic conventions.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	default:
		return other
	}
}

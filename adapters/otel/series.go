package otel

import (
	"maps"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// series keeps, for each combination of label values K, what records to it. Looking one up neither locks nor
// allocates; the map is copied when a combination turns up for the first time, which happens a bounded number
// of times. It is safe for concurrent use.
type series[K comparable, V any] struct {
	create func(K) V
	known  atomic.Pointer[map[K]V]
	mu     sync.Mutex // held while known is replaced
}

func newSeries[K comparable, V any](create func(K) V) *series[K, V] {
	s := &series[K, V]{create: create}
	s.known.Store(&map[K]V{})
	return s
}

func (s *series[K, V]) all() map[K]V { return *s.known.Load() }

func (s *series[K, V]) of(labels K) V {
	if v, ok := s.all()[labels]; ok {
		return v
	}
	s.add(labels)
	return s.all()[labels]
}

// add makes sure of several combinations at the cost of one copy.
func (s *series[K, V]) add(labels ...K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	grown := maps.Clone(s.all())
	for _, l := range labels {
		if _, ok := grown[l]; !ok {
			grown[l] = s.create(l)
		}
	}
	s.known.Store(&grown)
}

// count is one series of a counter. Reads are counted so, and shown by a callback, because adding to an
// instrument of the SDK takes several times as long as the rest of a read from memory.
type count struct {
	n      atomic.Int64
	labels metric.MeasurementOption
}

func newCount(labels ...attribute.KeyValue) *count { return &count{labels: labelled(labels...)} }

func observe[K comparable](o metric.Observer, counter metric.Int64Observable, s *series[K, *count]) {
	for _, c := range s.all() {
		o.ObserveInt64(counter, c.n.Load(), c.labels)
	}
}

func labelled(labels ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(labels...))
}

// recording is the form in which histograms take labels without an allocation.
func recording(labels ...attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{labelled(labels...)}
}

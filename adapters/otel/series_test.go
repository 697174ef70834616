package otel

import "testing"

func TestKnownSeriesIsKept(t *testing.T) {
	s := newSeries(staleCount)
	s.of("trading_api_key").n.Add(1)
	s.add("trading_api_key", "webhook_shared_secret")
	if n := s.of("trading_api_key").n.Load(); n != 1 {
		t.Errorf("the count is %d, want 1", n)
	}
}

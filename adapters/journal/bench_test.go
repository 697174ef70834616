package journal_test

import "testing"

// BenchmarkNext reads a batch of events, as the drain does, again and again. One operation is one event.
func BenchmarkNext(b *testing.B) {
	const size = 1000
	j := open(b, configIn(b.TempDir()))
	appendEvents(b, j, 1, 2*size)
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= size {
		if _, err := j.Next(b.Context(), min(left, size)); err != nil {
			b.Fatalf("Next: %v", err)
		}
	}
}

package sqlite_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// BenchmarkInsertEvents stores events in batches, as the drain of the journal does. One operation is one event.
func BenchmarkInsertEvents(b *testing.B) {
	for _, size := range []int{1, 50, 1000, 4000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s := migrated(b)
			at := time.Now()
			seq := uint64(0)
			batch := make([]domain.Event, size)
			b.ReportAllocs()
			for left := b.N; left > 0; left -= size {
				batch = batch[:min(left, size)]
				for i := range batch {
					seq++
					batch[i] = event(seq, at.Add(time.Duration(seq)*time.Microsecond))
					batch[i].Version, batch[i].Source, batch[i].Duration = "7", "gsm", 1500
				}
				insert(b, s, batch...)
			}
		})
	}
}

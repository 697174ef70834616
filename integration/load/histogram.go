package main

import (
	"math"
	"math/bits"
	"time"
)

// A histogram counts durations in buckets that are at most 1/128 of their value wide: exact below 256 ns, up to a
// minute. The zero value is empty. It is for one goroutine.
type histogram struct {
	counts [buckets]uint32
	n      uint64
	max    time.Duration
}

const (
	halfBits = 7
	half     = 1 << halfBits
	maxBits  = 36 // of nanoseconds: 69 s; what is longer counts as that
	buckets  = (maxBits - halfBits + 1) * half
)

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
	h.max = max(h.max, d)
}

func bucketOf(d time.Duration) int {
	v := uint64(min(max(d, 0), 1<<maxBits-1))
	shift := max(bits.Len64(v)-halfBits-1, 0)
	return shift*half + int(v>>shift)
}

// middleOf is the duration that a bucket stands for.
func middleOf(bucket int) time.Duration {
	shift := max(bucket/half-1, 0)
	low := time.Duration(bucket-shift*half) << shift
	return low + (1<<shift-1)/2
}

func (h *histogram) merge(other *histogram) {
	for i, n := range &other.counts {
		h.counts[i] += n
	}
	h.n += other.n
	h.max = max(h.max, other.max)
}

// quantile is the duration that the part q of them did not exceed, 0 when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.n)))
	var seen uint64
	for i, n := range &h.counts {
		if seen += uint64(n); seen >= rank && seen > 0 {
			return min(middleOf(i), h.max)
		}
	}
	return 0
}

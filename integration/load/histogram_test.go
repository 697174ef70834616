package main

import (
	"testing"
	"time"
)

func TestQuantilesAreWithinAHundredthPart(t *testing.T) {
	var odd, even, all histogram
	for i := range 100_000 {
		one := &even
		if i%2 == 1 {
			one = &odd
		}
		one.add(time.Duration(i+1) * time.Microsecond)
	}
	all.merge(&odd)
	all.merge(&even)
	for q, want := range map[float64]time.Duration{
		0.00001: time.Microsecond, 0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond, 0.999: 99_900 * time.Microsecond, 1: 100 * time.Millisecond,
	} {
		if got := all.quantile(q); got < want*99/100 || got > want*101/100 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestQuantilesOfExtremes(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("of none: %v, want 0", got)
	}
	h.add(-time.Second)
	if got := h.quantile(1); got != 0 {
		t.Errorf("of a clock that went back: %v, want 0", got)
	}
	h.add(time.Hour)
	if got := h.quantile(1); got < time.Minute {
		t.Errorf("of an hour: %v, want more than a minute", got)
	}
}

func TestEachBucketHoldsItsMiddle(t *testing.T) {
	for i := range buckets {
		if got := bucketOf(middleOf(i)); got != i {
			t.Fatalf("the middle of bucket %d, %v, is in bucket %d", i, middleOf(i), got)
		}
	}
}

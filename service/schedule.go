package service

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// schedule orders slots by the time of their next fetch. A slot that is being fetched is not in it.
type schedule struct {
	mu   sync.Mutex
	due  dueSlots
	wake chan struct{} // the first slot changed
}

func newSchedule() *schedule { return &schedule{wake: make(chan struct{}, 1)} }

// set puts the slot at its place, or moves it there.
func (q *schedule) set(sl *slot, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	sl.due = at
	if sl.position < 0 {
		heap.Push(&q.due, sl)
	} else {
		heap.Fix(&q.due, sl.position)
	}
	if sl.position == 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// waits reports whether the slot's next fetch is yet to come.
func (q *schedule) waits(sl *slot, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return sl.position >= 0 && sl.due.After(now)
}

// next takes the first slot off when its time has come; otherwise it tells how long that will be.
func (q *schedule) next(now time.Time) (*slot, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.due) == 0 {
		return nil, time.Hour
	}
	if wait := q.due[0].due.Sub(now); wait > 0 {
		return nil, wait
	}
	sl, _ := heap.Pop(&q.due).(*slot)
	return sl, 0
}

// keepFresh fetches each secret when it is due, a bounded number at a time.
func (s *Service) keepFresh(ctx context.Context) error {
	places := make(chan struct{}, MaxConcurrentFetches)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		sl, wait := s.schedule.next(time.Now())
		if sl == nil {
			select {
			case <-time.After(wait):
			case <-s.schedule.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		f := s.joinFetch(sl)
		waiting.Go(func() {
			_ = f.wait(ctx) // fetch itself counts, logs and reschedules
			<-places
		})
	}
}

// dueSlots is a heap by due time.
type dueSlots []*slot

func (d dueSlots) Len() int           { return len(d) }
func (d dueSlots) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d dueSlots) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].position, d[j].position = i, j
}

func (d *dueSlots) Push(x any) {
	sl, _ := x.(*slot)
	sl.position = len(*d)
	*d = append(*d, sl)
}

func (d *dueSlots) Pop() any {
	last := len(*d) - 1
	sl := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	sl.position = -1
	return sl
}

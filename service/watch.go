package service

import (
	"context"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Update is the state of one secret: what a reader would get now, or why there is nothing to get.
type Update struct {
	Type   domain.SecretType
	Served domain.Served // zero when there is nothing

	// Without a value: why the last fetch failed, "" when none ended yet, and whether the value must not be used
	// by those who still have it either.
	Reason    domain.Reason
	Withdrawn bool
}

// Available reports whether there is a value.
func (u Update) Available() bool { return !u.Served.Value.IsZero() }

// appearance is what a watcher can tell two states by. The zero appearance is that of none.
type appearance struct {
	known           bool
	source, version string // "" without a value
	stale           bool
	reason          domain.Reason
	withdrawn       bool
}

func (u Update) appearance() appearance {
	return appearance{true, u.Served.Source, u.Served.Version, u.Served.Stale, u.Reason, u.Withdrawn}
}

// Watch follows secrets for one caller. What it has yet to tell is a mark for each secret, so that a slow caller
// costs nothing and gets the newest state, not those in between. It has one user at a time.
type Watch struct {
	service *Service
	call    Call
	slots   []*slot
	told    []appearance // of the last update of each slot

	wake chan struct{} // something was marked

	mu     sync.Mutex
	marked []bool
	queue  []int // the marked ones, in the order of their change
}

// Watch begins to follow secrets until ctx is done: those of types, or all that the caller may read when there are
// none. It ends with the token of the call, too.
//
// Errors are *domain.Error: CodeForbidden, CodeUnknownSecretType.
func (s *Service) Watch(ctx context.Context, call Call, types []domain.SecretType) (*Watch, error) {
	if err := s.Authorize(ctx, call, domain.ScopeRead, ""); err != nil {
		return nil, err
	}
	slots, err := s.readable(ctx, call, types)
	if err != nil {
		return nil, err
	}
	w := &Watch{
		service: s, call: call, slots: slots,
		told: make([]appearance, len(slots)), marked: make([]bool, len(slots)), wake: make(chan struct{}, 1),
	}
	for i, sl := range slots {
		sl.follow(w, i)
		w.mark(i)
	}
	context.AfterFunc(ctx, w.forget)
	return w, nil
}

// forget lets go of a watch that nobody asks any more.
func (w *Watch) forget() {
	for _, sl := range w.slots {
		sl.unfollow(w)
	}
}

// readable finds the secrets, and refuses those that the caller may not read.
func (s *Service) readable(ctx context.Context, call Call, types []domain.SecretType) ([]*slot, error) {
	var slots []*slot
	if len(types) == 0 {
		for _, sl := range s.order {
			if sl.entry.MayRead(call.Principal.Subject) {
				slots = append(slots, sl)
			}
		}
		if len(slots) == 0 {
			return nil, s.deny(ctx, call, "", "the catalog does not list this subject among the readers of any secret")
		}
		return slots, nil
	}
	named := make(map[*slot]bool, len(types))
	for _, t := range types {
		sl, ok := s.slots[t]
		if !ok {
			return nil, s.refuseUnknown(ctx, call, domain.ActionRead, t)
		}
		if err := s.mayRead(ctx, call, sl); err != nil {
			return nil, err
		}
		if !named[sl] {
			named[sl] = true
			slots = append(slots, sl)
		}
	}
	return slots, nil
}

// Next waits until one of the secrets has another state than was told last, and returns it; first, the state of each.
// When there was nothing to tell for the given time it returns false. A value that is returned is in the audit journal
// as a read.
//
// Errors are ctx's or *domain.Error: CodeShuttingDown when the service is about to stop, CodeUnauthenticated when the
// token has expired or its key was taken back, CodeAuditUnavailable. The watch is over then.
func (w *Watch) Next(ctx context.Context, within time.Duration) (Update, bool, error) {
	var late <-chan time.Time
	for {
		if w.service.ending.Err() != nil {
			return Update{}, false, errShuttingDown
		}
		if i, ok := w.next(); ok {
			u, news, err := w.tell(ctx, i)
			if news || err != nil {
				return u, news, err
			}
			continue
		}
		if within <= 0 {
			return Update{}, false, w.service.authentic(ctx, w.call)
		}
		if late == nil {
			late = time.After(within)
		}
		select {
		case <-w.wake:
		case <-late:
			return Update{}, false, w.service.authentic(ctx, w.call)
		case <-w.service.ending.Done():
		case <-ctx.Done():
			return Update{}, false, ctx.Err()
		}
	}
}

// tell finds the state of a secret and records the read, when it is news.
func (w *Watch) tell(ctx context.Context, i int) (Update, bool, error) {
	now := time.Now()
	u := w.slots[i].update(now)
	if u.appearance() == w.told[i] {
		return Update{}, false, nil
	}
	if err := w.service.authentic(ctx, w.call); err != nil {
		return Update{}, false, err
	}
	if u.Available() {
		if err := w.service.recordRead(ctx, w.call, u.Served, now); err != nil {
			return Update{}, false, err
		}
	}
	w.told[i] = u.appearance()
	return u, true, nil
}

// mark notes that the state of a secret may have changed. It never waits.
func (w *Watch) mark(i int) {
	w.mu.Lock()
	if !w.marked[i] {
		w.marked[i] = true
		w.queue = append(w.queue, i)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// next takes the secret off that was marked first.
func (w *Watch) next() (i int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return 0, false
	}
	i = w.queue[0]
	w.queue = w.queue[1:] // append makes room anew, for those that are left
	w.marked[i] = false
	return i, true
}

var errShuttingDown = &domain.Error{
	Code: domain.CodeShuttingDown, Message: "this server is about to stop; connect again: another one, or its successor, goes on",
}

// EndWatches ends every watch, now and later, so that nobody waits for a change that will not come, and the service is
// not ready any more. It is called when the process is about to stop.
func (s *Service) EndWatches() { s.endWatches() }

// Ending is done when EndWatches was called.
func (s *Service) Ending() context.Context { return s.ending }

package service

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Limits is how often one caller may do, in a minute, what costs others more than itself. A caller may do all of a
// minute's at once; 0 is no limit.
type Limits struct {
	Refreshes    int // explicit refreshes of a subject
	Overrides    int // attempts of a subject to apply an override; to end one is never limited
	FailedTokens int // requests without a valid token from an address, or from an IPv6 network of 64 bits
}

// Names of the limits, as metrics and logs have them.
const (
	LimitRefresh     = "refresh"
	LimitBreakGlass  = "break_glass"
	LimitFailedToken = "failed_token"
)

const (
	limitWindow = time.Minute

	// maxLimited bounds one generation of callers that a limit remembers; there are two. An entry takes about 200 bytes.
	maxLimited = 4096
	// maxTallied bounds the callers whose refused calls are counted by themselves; the rest is counted together.
	maxTallied = 100
	// maxLimitLines bounds the log lines of one limit in a window.
	maxLimitLines = 20
	// recordedAddresses is how many addresses' worth of requests without a valid token are recorded one by one: there
	// may be more addresses than any other bound knows of.
	recordedAddresses = 10
)

// limit lets each caller do something so often. What it refuses is counted, and told in one audit event for each caller
// and window: an event for each call would let a caller fill the journal. Safe for concurrent use; a nil limit refuses
// nothing.
type limit struct {
	name      string
	perMinute int
	log       *slog.Logger
	over      atomic.Uint64 // calls that were refused, or not recorded

	mu         sync.Mutex
	young, old map[string]*rate.Limiter // by caller
	record     *rate.Limiter            // of events, for all callers together
	tallies    map[domain.Actor]*tally  // of this window
	logged     map[string]bool          // callers that the log tells of in this window
}

// tally is what is left of calls that were not recorded one by one.
type tally struct {
	calls       int
	first, last time.Time
}

func newLimit(name string, perMinute int, log *slog.Logger) *limit {
	if perMinute <= 0 {
		return nil
	}
	l := &limit{name: name, perMinute: perMinute, log: log, young: make(map[string]*rate.Limiter)}
	l.record = l.allowance(recordedAddresses)
	l.begin()
	return l
}

func (l *limit) allowance(callers int) *rate.Limiter {
	n := l.perMinute * callers
	return rate.NewLimiter(rate.Limit(float64(n)/limitWindow.Seconds()), n)
}

// begin begins a window, and returns what is left of the one before.
func (l *limit) begin() map[domain.Actor]*tally {
	tallies := l.tallies
	l.tallies, l.logged = make(map[domain.Actor]*tally), make(map[string]bool)
	return tallies
}

// take lets a caller through, or returns how long it must wait. actor is whose the refused calls were, in the audit trail.
func (l *limit) take(ctx context.Context, caller string, actor domain.Actor) (wait time.Duration) {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	place := l.of(caller).ReserveN(now, 1)
	if wait = place.DelayFrom(now); wait == 0 {
		return 0
	}
	place.CancelAt(now)
	l.count(actor, now)
	if !l.logged[caller] && len(l.logged) < maxLimitLines {
		l.logged[caller] = true
		l.log.WarnContext(ctx, "a caller is over a limit; what else it sends in this minute is counted and not logged",
			"limit", l.name, "caller", caller, "perMinute", l.perMinute)
	}
	return wait
}

// of is the caller's allowance. When the young generation is full it becomes the old one, and who was not seen meanwhile is
// forgotten.
func (l *limit) of(caller string) *rate.Limiter {
	one, ok := l.young[caller]
	if ok {
		return one
	}
	if one, ok = l.old[caller]; !ok {
		one = l.allowance(1)
	}
	if len(l.young) >= maxLimited {
		l.old, l.young = l.young, make(map[string]*rate.Limiter)
	}
	l.young[caller] = one
	return one
}

// recordable reports whether one more call without a valid token may have an event of its own. One that may not is counted.
func (l *limit) recordable() bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.record.AllowN(now, 1) {
		return true
	}
	l.count(domain.Anonymous, now)
	return false
}

func (l *limit) count(actor domain.Actor, now time.Time) {
	l.over.Add(1)
	t := l.tallies[actor]
	if t == nil && len(l.tallies) >= maxTallied {
		actor = domain.Automation
		t = l.tallies[actor]
	}
	if t == nil {
		t = &tally{first: now}
		l.tallies[actor] = t
	}
	t.calls++
	t.last = now
}

// sumUpLimits writes, at the end of each window and of the process, an audit event for each caller that was over a limit.
func (s *Service) sumUpLimits(ctx context.Context) error {
	var set []*limit
	for _, l := range []*limit{s.refreshes, s.applies, s.failed} {
		if l != nil {
			set = append(set, l)
		}
	}
	if len(set) == 0 {
		return nil
	}
	every := time.NewTicker(limitWindow)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			s.recordTallies(ctx, set)
		case <-ctx.Done():
			s.recordTallies(context.WithoutCancel(ctx), set)
			return ctx.Err()
		}
	}
}

func (s *Service) recordTallies(ctx context.Context, set []*limit) {
	for _, l := range set {
		l.mu.Lock()
		tallies := l.begin()
		l.mu.Unlock()
		for actor, t := range tallies {
			e := s.event(Call{}, domain.ActionAccessDenied, "", domain.ResultDenied)
			e.Actor, e.ErrorCode = actor, string(domain.CodeRateLimited)
			of := ""
			if actor == domain.Automation {
				of = " of further callers"
			}
			e.Reason = fmt.Sprintf("%d calls%s over the limit %s, of %d a minute, from %s to %s; they are not recorded one by one",
				t.calls, of, l.name, l.perMinute, t.first.UTC().Format(time.RFC3339), t.last.UTC().Format(time.RFC3339))
			s.note(ctx, e)
		}
	}
}

// LimitCounts is, by the name of each limit that is set, how many calls were over it since the start.
func (s *Service) LimitCounts() map[string]uint64 {
	counts := make(map[string]uint64)
	for _, l := range []*limit{s.refreshes, s.applies, s.failed} {
		if l != nil {
			counts[l.name] = l.over.Load()
		}
	}
	return counts
}

// tooMany is the error of a call that is over a limit.
func tooMany(what string, wait time.Duration) error {
	return &domain.Error{Code: domain.CodeRateLimited, Message: what, RetryAfter: max(wait, time.Second)}
}

// addressGroup is what counts as one address: whoever has one of IPv6 has all 64 bits of its network.
func addressGroup(hostPort string) string {
	peer, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return "unknown"
	}
	address := peer.Addr().Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	return netip.PrefixFrom(address, 64).Masked().String()
}

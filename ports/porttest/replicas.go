package porttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Replica is what one process has of a database that it shares. Watching is for the state as well, so that the suite
// changes that too.
type Replica interface {
	ports.Replicas
	State
}

// patience is how long the suites wait for what must happen before they call it a failure.
const patience = 30 * time.Second

// RunReplicas checks an implementation of ports.Replicas. create returns two or more replicas on one empty
// database, and ends them with t.Cleanup; where there can be only one process, they may be the same. They
// should not poll while the suite runs: it cannot tell a call that follows a change from one that polling makes.
func RunReplicas(t *testing.T, create func(t *testing.T) []Replica) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, all []Replica)
	}{
		{"at first there are no requests", requestsNone},
		{"a request names the secret and the replica, and every replica has it", requestSeen},
		{"the last request for a secret counts, with a greater number", requestAgain},
		{"the number grows from secret to secret", requestNumbers},
		{"a secret that is asked for twice in one request is there once", requestTwice},
		{"a request for nothing changes nothing", requestNothing},
		{"of concurrent requests each secret keeps one", requestRace},
		{"watching begins with a call", watchBegins},
		{"every replica learns of an override", watchApplied},
		{"every replica learns of the end of an override", watchEnded},
		{"every replica learns of a refresh request", watchRequested},
		{"every replica learns of each step of a rotation", watchRotated},
		{"calls come one at a time, and a change during a call is followed by another", watchOneAtATime},
		{"watching ends with its context, and says so", watchDone},
		{"watching again works", watchAgain},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			all := create(t)
			if len(all) < 2 {
				t.Fatalf("%d replicas, want 2 or more", len(all))
			}
			c.run(t, all)
		})
	}
}

func request(t *testing.T, r Replica, replicaID string, types ...domain.SecretType) {
	t.Helper()
	if err := r.RequestRefresh(t.Context(), types, replicaID); err != nil {
		t.Fatalf("RequestRefresh: %v", err)
	}
}

func requests(t *testing.T, r Replica) map[domain.SecretType]domain.RefreshRequest {
	t.Helper()
	all, err := r.RefreshRequests(t.Context())
	if err != nil {
		t.Fatalf("RefreshRequests: %v", err)
	}
	byType := make(map[domain.SecretType]domain.RefreshRequest)
	for _, one := range all {
		if _, twice := byType[one.Type]; twice {
			t.Errorf("two requests for %s", one.Type)
		}
		byType[one.Type] = one
	}
	return byType
}

func requestsNone(t *testing.T, all []Replica) {
	if got := requests(t, all[0]); len(got) != 0 {
		t.Errorf("requests: %v", got)
	}
}

func requestSeen(t *testing.T, all []Replica) {
	request(t, all[0], "replica-a", "trading_api_key", "webhook_shared_secret")
	for _, r := range all {
		got := requests(t, r)
		if len(got) != 2 || got["trading_api_key"].ReplicaID != "replica-a" || got["webhook_shared_secret"].ReplicaID != "replica-a" {
			t.Errorf("requests: %+v", got)
		}
	}
}

func requestAgain(t *testing.T, all []Replica) {
	request(t, all[0], "replica-a", "trading_api_key", "webhook_shared_secret")
	before := requests(t, all[0])
	request(t, all[1], "replica-b", "trading_api_key")
	after := requests(t, all[0])

	got := after["trading_api_key"]
	if got.ReplicaID != "replica-b" || got.Seq <= before["trading_api_key"].Seq || got.Seq <= before["webhook_shared_secret"].Seq {
		t.Errorf("%+v follows %+v", got, before)
	}
	if diff := cmp.Diff(before["webhook_shared_secret"], after["webhook_shared_secret"]); diff != "" {
		t.Errorf("the request for another secret changed (-before +after):\n%s", diff)
	}
}

func requestNumbers(t *testing.T, all []Replica) {
	last := int64(0)
	for n := range 10 {
		secret := domain.SecretType(fmt.Sprintf("secret_%d", n))
		request(t, all[n%len(all)], "replica-a", secret)
		seq := requests(t, all[0])[secret].Seq
		if seq <= last {
			t.Errorf("number %d follows %d", seq, last)
		}
		last = seq
	}
}

func requestTwice(t *testing.T, all []Replica) {
	request(t, all[0], "replica-a", "trading_api_key", "trading_api_key")
	if got := requests(t, all[1]); len(got) != 1 {
		t.Errorf("requests: %v", got)
	}
}

func requestNothing(t *testing.T, all []Replica) {
	request(t, all[0], "replica-a")
	if got := requests(t, all[0]); len(got) != 0 {
		t.Errorf("requests: %v", got)
	}
}

func requestRace(t *testing.T, all []Replica) {
	types := []domain.SecretType{"a", "b", "c", "d"}
	race(func(i int) {
		order := slices.Clone(types)
		if i%2 == 0 {
			slices.Reverse(order)
		}
		if err := all[i%len(all)].RequestRefresh(t.Context(), order, fmt.Sprintf("replica-%d", i)); err != nil {
			t.Errorf("RequestRefresh: %v", err)
		}
	})
	if got := requests(t, all[0]); len(got) != len(types) {
		t.Errorf("requests: %v", got)
	}
}

// watched is a running Watch.
type watched struct {
	calls chan struct{} // holds a token when there was a call since the last look
	stop  func()        // ends Watch and waits for it
}

func (w watched) await(t *testing.T, what string) {
	t.Helper()
	select {
	case <-w.calls:
	case <-time.After(patience):
		t.Fatalf("changed was not called: %s", what)
	}
}

// awaitUntil waits until a call comes after which seen is true.
func (w watched) awaitUntil(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for !seen() {
		w.await(t, what)
	}
}

// watch runs Watch until the test ends. during is called in each call of changed.
func watch(t *testing.T, r Replica, during func()) watched {
	t.Helper()
	w := watched{calls: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := r.Watch(ctx, func() {
			during()
			select {
			case w.calls <- struct{}{}:
			default:
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Watch: %v, want its context's error", err)
		}
	}()
	w.stop = func() { cancel(); <-ended }
	t.Cleanup(w.stop)
	return w
}

// watchAll watches on every replica, and begins when each has had its first call.
func watchAll(t *testing.T, all []Replica) []watched {
	t.Helper()
	var watches []watched
	for _, r := range all {
		w := watch(t, r, func() {})
		w.await(t, "at the beginning")
		watches = append(watches, w)
	}
	return watches
}

func watchBegins(t *testing.T, all []Replica) { watchAll(t, all) }

func openOn(t *testing.T, r Replica) int {
	t.Helper()
	open, err := r.OpenOverrides(t.Context())
	if err != nil {
		t.Fatalf("OpenOverrides: %v", err)
	}
	return len(open)
}

func applyOn(t *testing.T, r Replica) {
	t.Helper()
	if err := r.ApplyOverride(t.Context(), override(1), applied(1), none(t)); err != nil {
		t.Fatalf("ApplyOverride: %v", err)
	}
}

func watchApplied(t *testing.T, all []Replica) {
	watches := watchAll(t, all)
	applyOn(t, all[0])
	for i, w := range watches {
		w.await(t, fmt.Sprintf("replica %d", i))
		w.awaitUntil(t, fmt.Sprintf("replica %d", i), func() bool { return openOn(t, all[i]) == 1 })
	}
}

func watchEnded(t *testing.T, all []Replica) {
	applyOn(t, all[0])
	watches := watchAll(t, all)
	if ok, err := all[1].EndOverride(t.Context(), override(1).ID, domain.EndCleared, cleared(2)); !ok || err != nil {
		t.Fatalf("EndOverride: %v, %v", ok, err)
	}
	for i, w := range watches {
		w.await(t, fmt.Sprintf("replica %d", i))
		w.awaitUntil(t, fmt.Sprintf("replica %d", i), func() bool { return openOn(t, all[i]) == 0 })
	}
}

func watchRequested(t *testing.T, all []Replica) {
	watches := watchAll(t, all)
	request(t, all[1], "replica-b", "trading_api_key")
	for i, w := range watches {
		w.await(t, fmt.Sprintf("replica %d", i))
		w.awaitUntil(t, fmt.Sprintf("replica %d", i), func() bool { return len(requests(t, all[i])) == 1 })
	}
}

func watchRotated(t *testing.T, all []Replica) {
	ensure(t, all[0], 1, activeRow(rotated))
	steps := []func(on Replica){
		func(on Replica) {
			begin(t, on, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
		},
		func(on Replica) {
			standings, err := on.Standings(t.Context())
			if err != nil || len(standings) != 1 {
				t.Fatalf("Standings: %v, %v", standings, err)
			}
			endRotation(t, on, "rot-1", domain.RotationPromoted, standings[0].Promoted(), made, rotationEvent(3, domain.ActionRotationPromote), true)
		},
	}
	want := []domain.RotationStatus{domain.RotationRotating, domain.RotationActive}
	for step, take := range steps {
		watches := watchAll(t, all)
		take(all[step%2])
		for i, w := range watches {
			w.await(t, fmt.Sprintf("replica %d", i))
			w.awaitUntil(t, fmt.Sprintf("replica %d", i), func() bool {
				standings, err := all[i].Standings(t.Context())
				return err == nil && len(standings) == 1 && standings[0].Status == want[step] && standings[0].Newest == "42"
			})
		}
	}
}

func watchOneAtATime(t *testing.T, all []Replica) {
	var running, calls atomic.Int32
	entered, release := make(chan struct{}), make(chan struct{})
	w := watch(t, all[0], func() {
		if running.Add(1) != 1 {
			t.Error("two calls at the same time")
		}
		if calls.Add(1) == 1 {
			close(entered)
			<-release
		}
		running.Add(-1)
	})
	select {
	case <-entered:
	case <-time.After(patience):
		close(release)
		t.Fatal("changed was not called at the beginning")
	}
	for n := range 50 {
		request(t, all[n%len(all)], "replica-b", "trading_api_key")
	}
	close(release)
	w.awaitUntil(t, "after the changes", func() bool { return calls.Load() >= 2 })
}

func watchDone(t *testing.T, all []Replica) {
	w := watch(t, all[0], func() {}) // looks at the error of Watch
	w.await(t, "at the beginning")
	w.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := all[0].Watch(ctx, func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch with a context that is done: %v", err)
	}
}

func watchAgain(t *testing.T, all []Replica) {
	first := watch(t, all[0], func() {})
	first.await(t, "the first time")
	first.stop()
	second := watch(t, all[0], func() {})
	second.await(t, "the second time")
	request(t, all[1], "replica-b", "trading_api_key")
	second.await(t, "after a change")
}

package porttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/ports"
)

// RunLeadership checks an implementation of ports.Leadership. create returns two or more replicas on one empty
// database, and ends them with t.Cleanup; where there can be only one process, they may be the same.
func RunLeadership(t *testing.T, create func(t *testing.T) []ports.Leadership) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, all []ports.Leadership)
	}{
		{"one leads at a time", leadAlone},
		{"leadership passes on when the leader ends, after its duties", leadPassesOn},
		{"the context of the duties ends with that of Lead, which waits for them", leadWaits},
		{"duties that returned begin again", leadAgain},
		{"Lead ends with its context also while another leads, and says so", leadDone},
		{"a job is due at first, and then not for its interval", claimOnce},
		{"jobs are due each on its own", claimJobs},
		{"of replicas that claim together one gets the job", claimRace},
		{"a job is due again after its interval, and never before", claimAgain},
		{"a shorter interval makes a job due earlier", claimShorter},
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

// Candidate is a running Lead whose duties do nothing but last.
type Candidate struct {
	Leads <-chan context.Context // gets the context of the duties whenever they begin
	Stop  func()                 // ends Lead and waits for it
}

// Campaign runs Lead until the test ends. Duties last until their context ends, and then call after, if it is
// not nil.
func Campaign(t *testing.T, l ports.Leadership, after func()) Candidate {
	t.Helper()
	leads := make(chan context.Context, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := l.Lead(ctx, func(duty context.Context) {
			leads <- duty
			<-duty.Done()
			if after != nil {
				after()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Lead: %v, want its context's error", err)
		}
	}()
	stop := func() { cancel(); <-ended }
	t.Cleanup(stop)
	return Candidate{Leads: leads, Stop: stop}
}

// AwaitTerm waits until the candidate leads.
func (c Candidate) AwaitTerm(t *testing.T) context.Context {
	t.Helper()
	select {
	case duty := <-c.Leads:
		return duty
	case <-time.After(patience):
		t.Fatal("it does not lead")
		return nil
	}
}

func leadAlone(t *testing.T, all []ports.Leadership) {
	const terms = 3
	var leading atomic.Int32
	done := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var replicas sync.WaitGroup
	for range 2 {
		for _, l := range all {
			replicas.Go(func() {
				_ = l.Lead(ctx, func(context.Context) {
					if leading.Add(1) != 1 {
						t.Error("two lead at the same time")
					}
					select {
					case done <- struct{}{}:
					default:
					}
					leading.Add(-1)
				})
			})
		}
	}
	for range terms {
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("nobody leads")
		}
	}
	cancel()
	replicas.Wait()
}

func leadPassesOn(t *testing.T, all []ports.Leadership) {
	var ended atomic.Bool
	first := Campaign(t, all[0], func() { ended.Store(true) })
	first.AwaitTerm(t)
	second := Campaign(t, all[1], nil)
	first.Stop()
	if duty := second.AwaitTerm(t); duty.Err() != nil {
		t.Error("the next leader's duties begin with a context that is done")
	}
	if !ended.Load() {
		t.Error("the next leader began before the duties of the former ended")
	}
}

func leadWaits(t *testing.T, all []ports.Leadership) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := false
	err := all[0].Lead(ctx, func(duty context.Context) {
		if duty.Err() != nil {
			t.Error("the duties begin with a context that is done")
		}
		cancel()
		select {
		case <-duty.Done():
		case <-time.After(patience):
			t.Error("the context of the duties goes on")
		}
		ended = true
	})
	if !ended {
		t.Error("Lead returned before its duties")
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Lead: %v, want its context's error", err)
	}
}

func leadAgain(t *testing.T, all []ports.Leadership) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	terms := 0
	_ = all[0].Lead(ctx, func(context.Context) {
		if terms++; terms == 2 {
			cancel()
		}
	})
	if terms != 2 {
		t.Errorf("the duties began %d times, want 2", terms)
	}
}

func leadDone(t *testing.T, all []ports.Leadership) {
	leader := Campaign(t, all[0], nil)
	duty := leader.AwaitTerm(t)
	other := Campaign(t, all[1], nil) // looks at the error of Lead
	other.Stop()
	if len(other.Leads) != 0 || duty.Err() != nil {
		t.Error("two lead at the same time")
	}
}

func claim(t *testing.T, l ports.Leadership, job string, every time.Duration) (mine bool, wait time.Duration) {
	t.Helper()
	mine, wait, err := l.Claim(t.Context(), job, every)
	if err != nil {
		t.Fatalf("Claim: %v", err)
	}
	return mine, wait
}

func claimOnce(t *testing.T, all []ports.Leadership) {
	if mine, _ := claim(t, all[0], "monitor", time.Hour); !mine {
		t.Error("a job that nobody did is not due")
	}
	for i, l := range all {
		mine, wait := claim(t, l, "monitor", time.Hour)
		if mine {
			t.Errorf("replica %d got the job again", i)
		}
		if wait <= 59*time.Minute || wait > time.Hour {
			t.Errorf("replica %d shall wait %v, want almost an hour", i, wait)
		}
	}
}

func claimJobs(t *testing.T, all []ports.Leadership) {
	for i, l := range all {
		job := fmt.Sprintf("job-%d", i)
		if mine, _ := claim(t, l, job, time.Hour); !mine {
			t.Errorf("%s is not due", job)
		}
	}
}

func claimRace(t *testing.T, all []ports.Leadership) {
	for round := range 5 {
		var won atomic.Int32
		race(func(i int) {
			mine, wait, err := all[i%len(all)].Claim(t.Context(), fmt.Sprintf("job-%d", round), time.Hour)
			switch {
			case err != nil:
				t.Errorf("Claim: %v", err)
			case mine:
				won.Add(1)
			case wait <= 0 || wait > time.Hour:
				t.Errorf("a loser shall wait %v", wait)
			}
		})
		if won.Load() != 1 {
			t.Errorf("%d replicas got the job, want 1", won.Load())
		}
	}
}

// The claims themselves lie between the times taken before and after the calls, so that no delay of the test
// can bring them too close together.
func claimAgain(t *testing.T, all []ports.Leadership) {
	const every = 50 * time.Millisecond
	var last time.Time
	for round := 0; round < 3; {
		for _, l := range all {
			before := time.Now()
			mine, wait := claim(t, l, "monitor", every)
			after := time.Now()
			if !mine {
				if wait > every {
					t.Fatalf("shall wait %v for a job of every %v", wait, every)
				}
				continue
			}
			if apart := after.Sub(last); apart < every {
				t.Errorf("claimed twice within %v, want %v between", apart, every)
			}
			last = before
			round++
		}
	}
}

func claimShorter(t *testing.T, all []ports.Leadership) {
	claim(t, all[0], "monitor", time.Hour)
	deadline := time.Now().Add(patience)
	for {
		mine, _ := claim(t, all[1], "monitor", time.Millisecond)
		if mine {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not due")
		}
	}
}

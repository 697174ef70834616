package service

import (
	"context"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// The jobs that one replica at a time does.
const (
	jobRotationCheck = "rotation_check"
	jobFollowUpCheck = "follow_up_check"
	jobPruneEvents   = "prune_audit_events"

	pruneEvery = 24 * time.Hour
)

// Leading reports whether this replica does the periodic work.
func (s *Service) Leading() bool { return s.leading.Load() }

// lead does the periodic work while this replica is the leader.
func (s *Service) lead(ctx context.Context) error {
	return s.cfg.Leadership.Lead(ctx, func(ctx context.Context) {
		s.leading.Store(true)
		defer s.leading.Store(false)
		var jobs sync.WaitGroup
		jobs.Go(func() { s.periodically(ctx, jobRotationCheck, domain.RotationCheckEvery, s.checkRotations) })
		jobs.Go(func() { s.periodically(ctx, jobFollowUpCheck, domain.RotationCheckEvery, s.checkFollowUps) })
		jobs.Go(func() { s.periodically(ctx, jobPruneEvents, pruneEvery, s.pruneEvents) })
		if !s.cfg.CheckpointKey.IsZero() {
			jobs.Go(func() { s.periodically(ctx, jobAuditCheckpoint, s.cfg.CheckpointEvery, s.signCheckpoints) })
		}
		jobs.Wait()
	})
}

// periodically does the job whenever it is due and this replica has claimed it, until ctx is done.
func (s *Service) periodically(ctx context.Context, job string, every time.Duration, do func(context.Context)) {
	retry := backoff{min: time.Second, max: time.Minute}
	for ctx.Err() == nil {
		mine, wait, err := s.cfg.Leadership.Claim(ctx, job, every)
		switch {
		case err != nil:
			if ctx.Err() == nil && retry.last < retry.max {
				s.log.WarnContext(ctx, "a periodic job is late: the database does not answer", "job", job, "err", err)
			}
			wait = retry.next()
		case mine:
			retry.reset()
			do(ctx)
			continue
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

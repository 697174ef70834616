package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Lead implements ports.Leadership.
//
//	           +--------------- not free: 1 s ---------------+
//	           v                                             |
//	connect --> try the lock --> lead, checking every 1 s ---+ duties returned: unlock
//	   ^                              |
//	   +------- connection lost ------+ duties are told to end, and waited for
//
// The lock belongs to the session. When the connection is lost, another replica may lead before this one knows:
// for up to two seconds both may. What must never be done twice asks Claim.
func (s *Store) Lead(ctx context.Context, duties func(context.Context)) error {
	line := s.newLine("leader")
	for ctx.Err() == nil {
		err := s.campaign(ctx, line, duties)
		line.lost(ctx, err)
	}
	return ctx.Err()
}

const (
	tryLead  = `SELECT pg_try_advisory_lock($1, $2)`
	stopLead = `SELECT pg_advisory_unlock($1, $2)`
)

// campaign tries to lead, and leads, until the connection is lost or ctx is done.
func (s *Store) campaign(ctx context.Context, line *line, duties func(context.Context)) error {
	conn, err := s.connect(ctx, line.name)
	if err != nil {
		return explain(err)
	}
	defer disconnect(ctx, conn) // which frees the lock
	for {
		leader, err := s.ask(ctx, conn, tryLead)
		if err != nil {
			return explain(err)
		}
		line.up(ctx)
		if leader {
			if err := s.term(ctx, conn, duties); err != nil {
				return err
			}
			if _, err := s.ask(ctx, conn, stopLead); err != nil {
				return explain(err)
			}
		}
		if !pause(ctx, s.pace.lead) {
			return ctx.Err()
		}
	}
}

func (s *Store) ask(ctx context.Context, conn *pgx.Conn, question string) (yes bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.probe)
	defer cancel()
	err = conn.QueryRow(ctx, question, lockOmni, lockLeader).Scan(&yes)
	return yes, err
}

// term runs the duties once. It returns when they have returned, with an error when they had to end because
// the connection is lost.
func (s *Store) term(ctx context.Context, conn *pgx.Conn, duties func(context.Context)) error {
	s.log.InfoContext(ctx, "this replica leads")
	defer s.log.InfoContext(ctx, "this replica leads no more")
	term, end := context.WithCancel(ctx)
	defer end()

	var lost error
	var checking sync.WaitGroup
	checking.Go(func() {
		defer end()
		lost = s.stay(term, conn)
	})
	duties(term)
	end()
	checking.Wait()
	return lost
}

// stay returns when term is done, with nil, or when the connection is lost.
func (s *Store) stay(term context.Context, conn *pgx.Conn) error {
	check := time.NewTicker(s.pace.lead)
	defer check.Stop()
	for {
		select {
		case <-term.Done():
			return nil
		case <-check.C:
			// The end of the term must not interrupt it, which would close the connection.
			if err := s.probe(context.WithoutCancel(term), conn, stillThere); err != nil {
				return err
			}
		}
	}
}

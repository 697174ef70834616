package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// One statement and one clock, the database's: of replicas that claim together the first locks the row, and the
// others look at what it wrote. A claim from further ahead than the interval is a clock that was wrong.
const claimJob = `
INSERT INTO omni_jobs AS j (job, claimed_at)
VALUES ($1, clock_timestamp())
ON CONFLICT (job) DO UPDATE SET claimed_at = clock_timestamp()
WHERE j.claimed_at <= clock_timestamp() - make_interval(secs => $2)
   OR j.claimed_at > clock_timestamp() + make_interval(secs => $2)`

const untilDue = `
SELECT extract(epoch FROM claimed_at - clock_timestamp())::double precision + $2
FROM omni_jobs
WHERE job = $1`

// Claim implements ports.Leadership. With true, wait is the whole interval.
func (s *Store) Claim(ctx context.Context, job string, every time.Duration) (mine bool, wait time.Duration, err error) {
	seconds := every.Seconds()
	err = s.write(ctx, "claim job", func(ctx context.Context, tx pgx.Tx) error {
		claimed, err := tx.Exec(ctx, claimJob, job, seconds)
		if err != nil {
			return fmt.Errorf("%s: %w", job, err)
		}
		mine = claimed.RowsAffected() == 1
		return nil
	})
	switch {
	case err != nil:
		return false, 0, err
	case mine:
		return true, every, nil
	}

	due, err := read(ctx, s, "claim job", func(row pgx.Row, in *float64) error { return row.Scan(in) }, untilDue, job, seconds)
	if err != nil || len(due) == 0 {
		return false, 0, err
	}
	return false, max(0, time.Duration(due[0]*float64(time.Second))), nil
}

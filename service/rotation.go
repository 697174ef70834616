package service

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// rotationMonitor remembers the metadata that was read last and for how many checks a deadline has been near or past.
type rotationMonitor struct {
	mu     sync.RWMutex
	rows   map[domain.SecretType]domain.Metadata
	stands int                                // how often a row was brought up to date here: what was read before is old then
	states map[domain.SecretType]checkedState // used by checkRotations alone
}

// checkedState is what the last checks of a deadline found.
type checkedState struct {
	state       domain.RotationState
	consecutive int
}

func newRotationMonitor() rotationMonitor {
	return rotationMonitor{states: make(map[domain.SecretType]checkedState)}
}

// metadata of an entry as it was read last; before the first time, what its row will be.
func (m *rotationMonitor) metadata(e domain.Entry, environment string, now time.Time) domain.Metadata {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if row, ok := m.rows[e.Type]; ok {
		return row
	}
	return domain.NewMetadata(e, environment, now)
}

// stand brings the row of a secret up to what was just stored of it.
func (m *rotationMonitor) stand(next domain.Standing, rotated domain.Rotated) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, ok := m.rows[next.Type]
	if !ok {
		return
	}
	row.Status, row.NewestVersion, row.PinnedVersion = next.Status, next.Newest, next.Pinned
	if !rotated.At.IsZero() && !rotated.At.Before(row.LastRotatedAt) {
		row.LastRotatedAt, row.RotationDueAt = rotated.At, rotated.DueAt
	}
	m.rows[next.Type] = row
	m.stands++
}

func (s *Service) readMetadata(ctx context.Context) error {
	for {
		stands := s.rotations.generation()
		list, err := s.cfg.Metadata.ListMetadata(ctx)
		if err != nil {
			return err
		}
		rows := make(map[domain.SecretType]domain.Metadata, len(list))
		for _, row := range list {
			rows[row.Type] = row
		}
		if s.rotations.replace(rows, stands) {
			return nil
		}
	}
}

func (m *rotationMonitor) generation() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.stands
}

// replace takes over rows that were read since the generation stands, and reports false when they are older.
func (m *rotationMonitor) replace(rows map[domain.SecretType]domain.Metadata, stands int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stands != stands {
		return false
	}
	m.rows = rows
	return true
}

// checkRotations warns of each deadline that is near or past. When the database does not answer it goes by
// what was read last: a deadline does not move by itself.
func (s *Service) checkRotations(ctx context.Context) {
	if err := s.readMetadata(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "rotation deadlines are checked as they were read last: the database does not answer", "err", err)
	}
	now := time.Now()
	for _, sl := range s.order {
		row := s.rotations.metadata(sl.entry, s.cfg.Environment, now)
		last := s.rotations.states[row.Type]
		checked := checkedState{state: row.RotationAt(now), consecutive: 1}
		if last.state == checked.state {
			checked.consecutive += last.consecutive
		}
		s.rotations.states[row.Type] = checked
		name, away := domain.AlertRotationDueSoon, row.RotationDueAt.Sub(now)
		switch checked.state {
		case domain.RotationCurrent:
			continue
		case domain.RotationOverdue:
			name, away = domain.AlertRotationOverdue, -away
		case domain.RotationDueSoon:
		}
		s.log.LogAttrs(ctx, slog.LevelWarn, name, //nolint:sloglint // one of the constants domain.Alert…
			slog.String("secretType", string(row.Type)),
			slog.String("owner", row.Owner),
			slog.Time("rotationDueAt", row.RotationDueAt),
			slog.Int("days", days(away)),
			slog.Int("consecutiveChecks", checked.consecutive))
	}
}

func days(d time.Duration) int { return int(math.Floor(d.Hours() / 24)) }

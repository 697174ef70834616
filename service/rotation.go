package service

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// rotationMonitor remembers the metadata that was read last and how long deadlines have been missed.
type rotationMonitor struct {
	mu      sync.RWMutex
	rows    map[domain.SecretType]domain.Metadata
	overdue map[domain.SecretType]int // consecutive checks; used by checkRotations alone
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

func (s *Service) readMetadata(ctx context.Context) error {
	list, err := s.cfg.Metadata.ListMetadata(ctx)
	if err != nil {
		return err
	}
	rows := make(map[domain.SecretType]domain.Metadata, len(list))
	for _, row := range list {
		rows[row.Type] = row
	}
	s.rotations.mu.Lock()
	defer s.rotations.mu.Unlock()
	s.rotations.rows = rows
	return nil
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
		attrs := []slog.Attr{
			slog.String("secretType", string(row.Type)),
			slog.String("owner", row.Owner),
			slog.Time("rotationDueAt", row.RotationDueAt),
		}
		switch domain.RotationStateAt(row.RotationDueAt, now) {
		case domain.RotationOverdue:
			s.rotations.overdue[row.Type]++
			attrs = append(attrs, slog.Int("daysOverdue", days(now.Sub(row.RotationDueAt))),
				slog.Int("consecutiveChecks", s.rotations.overdue[row.Type]))
			s.log.LogAttrs(ctx, slog.LevelWarn, domain.AlertRotationOverdue, attrs...)
			continue
		case domain.RotationDueSoon:
			attrs = append(attrs, slog.Int("daysLeft", days(row.RotationDueAt.Sub(now))))
			s.log.LogAttrs(ctx, slog.LevelWarn, domain.AlertRotationDueSoon, attrs...)
		case domain.RotationCurrent:
		}
		delete(s.rotations.overdue, row.Type)
	}
}

func days(d time.Duration) int { return int(math.Floor(d.Hours() / 24)) }

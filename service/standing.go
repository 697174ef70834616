package service

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// promotionGrace is for how long a version is served on once another replica has promoted its successor: time to fetch
// that, so that no reader waits for it, and short of the second after which nobody may see the old one.
const promotionGrace = 500 * time.Millisecond

// followRotations takes over the standings that the replicas have agreed on: at the start, before anything is fetched, and
// whenever another one decided. What was decided about a secret of another origin, by replicas of another catalog, is left
// alone, and told of: what was known before holds on.
func (s *Service) followRotations(ctx context.Context) error {
	s.steps.Lock()
	defer s.steps.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	list, err := s.cfg.Rotations.Standings(ctx)
	if err != nil {
		return err
	}
	there := make(map[domain.SecretType]domain.Standing, len(list))
	for _, st := range list {
		there[st.Type] = st
	}
	changed := false
	var missing []*slot
	for _, sl := range s.order {
		st, ok := there[sl.entry.Type]
		ours := st.Origin == sl.entry.Origin()
		switch {
		case !ok:
			missing = append(missing, sl)
			continue
		case ours && st != sl.snapshot().standing:
			s.adopt(sl, st)
			if v := sl.snapshot(); st.Find(v.found) == domain.FoundFirst {
				s.served.add(sl) // which notes it
			}
			changed = true
		case !ours && !sl.foreign:
			s.log.WarnContext(ctx, "the database has another secret for this type than the catalog here: nothing is counted or decided about it",
				"secretType", st.Type, "reference", sl.entry.Reference, "theirs", st.Origin.Reference, "replicaId", s.cfg.ReplicaID,
				"next", "while replicas are updated to another catalog this is so; afterwards, restart one that has the newest")
		}
		sl.foreign = !ours
	}
	if len(missing) > 0 && s.started.Load() {
		if err := s.remakeMetadata(ctx, missing); err != nil {
			return err
		}
		changed = true
	}
	if changed { // the deadlines have moved too
		return s.readMetadata(ctx)
	}
	return nil
}

// adopt makes a standing that was decided the one of the secret here. A version that is not to be served any more goes
// within promotionGrace of the step that decided so, whatever steps follow.
func (s *Service) adopt(sl *slot, standing domain.Standing) {
	now := time.Now()
	current := true
	sl.change(func(v *view) {
		v.standing = standing
		if v.state.Value.IsZero() {
			v.replaceBy = time.Time{}
			current = !v.state.Tried() // the first fetch is under way or about to begin; a later one may be half a minute off
			return
		}
		current = v.state.Version == cmp.Or(standing.Pinned, standing.Newest)
		if standing.Follows(v.state.Version) {
			v.replaceBy = time.Time{}
		} else if v.replaceBy.IsZero() {
			v.replaceBy = now.Add(promotionGrace)
		}
	})
	if !current {
		s.fetchSoon(sl)
	}
}

// countVersions tells the database of versions that were found behind the catalog's aliases.
func (s *Service) countVersions(ctx context.Context) error {
	return s.found.keep(ctx, s.countVersion, func(err error) {
		s.log.WarnContext(ctx, "a version that is served is not counted as a rotation yet: the database does not take it", "err", err)
	})
}

// countVersion counts what was found behind the alias as a rotation, if it is one. Of all replicas one does.
func (s *Service) countVersion(ctx context.Context, sl *slot) error {
	s.steps.Lock()
	defer s.steps.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	v := sl.snapshot()
	switch v.standing.Find(v.found) {
	case domain.FoundNewer:
		return s.countRotation(ctx, sl, v)
	case domain.FoundBehind:
		s.alertRollback(ctx, sl, v.standing, v.found)
	case domain.FoundKnown, domain.FoundFirst: // recordServed notes the first
	}
	return nil
}

// countRotation counts a rotation that was made by adding a version behind the alias. A version that has the value of
// the one before is the newest from then on, but no rotation.
func (s *Service) countRotation(ctx context.Context, sl *slot, v *view) error {
	from, found := v.standing, v.found
	e := s.event(Call{}, domain.ActionRotationDetected, sl.entry.Type, domain.ResultSuccess)
	e.Actor, e.Version, e.Source, e.Reason = domain.Automation, found, sl.entry.Backend, "the newest before was "+from.Newest
	next, rotated := from.Counted(found), sl.entry.RotatedAt(e.RecordedAt)
	if !v.rotated {
		e.Action, e.Reason, rotated = domain.ActionWriteMetadata, "the value is that of version "+from.Newest+", as far as is known", domain.Rotated{}
	}
	first, err := s.cfg.Rotations.RecordRotation(ctx, from.Newest, next, rotated, e)
	if err != nil {
		return err
	}
	if !first && s.cfg.Replicas != nil { // another one was faster, or has begun a rotation: followRotations takes over which
		return nil
	}
	if !first { // somebody changed the row by hand
		if err := s.readMetadata(ctx); err != nil {
			return err
		}
		now := s.rotations.metadata(sl.entry, s.cfg.Environment, time.Now()).Standing()
		if !now.Rotating() && now.Origin == sl.entry.Origin() { // of a rotation followRotations knows more
			s.adopt(sl, now)
		}
		return nil
	}
	sl.change(func(v *view) { v.standing = next })
	s.rotations.stand(next, rotated)
	if !v.rotated {
		return nil
	}
	s.followUps.rotated(sl.entry.Type, rotated.At)
	s.log.LogAttrs(ctx, slog.LevelInfo, domain.EventRotationDetected,
		append(s.rotationAttrs(Call{}, sl, from.Newest, found), slog.Time("rotationDueAt", rotated.DueAt))...)
	return nil
}

// alertRollback tells, once for each version, that the alias went back to it. That is no rotation.
func (s *Service) alertRollback(ctx context.Context, sl *slot, standing domain.Standing, found string) {
	if sl.snapshot().rolledBack == found {
		return
	}
	sl.change(func(v *view) { v.rolledBack = found })
	s.log.LogAttrs(ctx, slog.LevelWarn, domain.AlertVersionRollback, s.rotationAttrs(Call{}, sl, standing.Newest, found)...)
}

func (s *Service) rotationAttrs(call Call, sl *slot, from, to string) []slog.Attr {
	return []slog.Attr{
		slog.String("secretType", string(sl.entry.Type)),
		slog.String("owner", sl.entry.Owner),
		slog.String("fromVersion", from),
		slog.String("toVersion", to),
		slog.String("requestId", call.RequestID),
		slog.String("replicaId", s.cfg.ReplicaID),
	}
}

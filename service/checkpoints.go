package service

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const jobAuditCheckpoint = "audit_checkpoint"

// checkpoints is what this process knows of the chains that it signed.
type checkpoints struct {
	last atomic.Pointer[time.Time] // nil while there is none; whoever asks must not wait for the database

	mu     sync.Mutex
	signed map[domain.ChainID]domain.Checkpoint // the last one of each chain
}

// LastCheckpoint is when this process last signed a checkpoint, or found that nothing was to be signed; zero while it
// has not.
func (s *Service) LastCheckpoint() time.Time {
	if at := s.checkpoints.last.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// signCheckpoints signs where each chain ends that has grown since its last checkpoint. The leader does so.
func (s *Service) signCheckpoints(ctx context.Context) {
	if err := s.sign(ctx, func(domain.ChainHead) bool { return true }); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the audit trail has no new checkpoint: the database does not answer", "err", err)
	}
}

// Checkpoint signs where the chain of this replica ends, as it does before the process stops. Without a key it does
// nothing.
func (s *Service) Checkpoint(ctx context.Context) error {
	if s.cfg.CheckpointKey.IsZero() {
		return nil
	}
	return s.sign(ctx, func(h domain.ChainHead) bool { return h.ReplicaID == s.cfg.ReplicaID })
}

// sign signs the heads of chains that are wanted and have grown, stores the checkpoints and logs them. A head that
// contradicts a checkpoint, of this process or in the database, is not signed: the database was changed behind it. Else
// one that was put in, ahead of its chain, would silently end the signing.
func (s *Service) sign(ctx context.Context, wanted func(domain.ChainHead) bool) error {
	s.checkpoints.mu.Lock()
	defer s.checkpoints.mu.Unlock()
	stored, err := s.cfg.Chains.LastCheckpoints(ctx)
	if err != nil {
		return err
	}
	known := make(map[domain.ChainID]domain.Checkpoint, len(stored))
	for _, c := range stored {
		known[c.Chain] = c
	}
	heads, err := s.cfg.Chains.ChainHeads(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	var points []domain.Checkpoint
	for _, h := range heads {
		last := s.checkpoints.signed[h.Chain]
		if c := known[h.Chain]; c.Seq > last.Seq {
			last = c
		}
		if h.Seq < last.Seq || h.Seq == last.Seq && h.Hash != last.Hash {
			s.log.ErrorContext(ctx, domain.AlertAuditChain, "chain", h.Chain.String(), "replica", h.ReplicaID, "seq", h.Seq, "signedSeq", last.Seq,
				"next", "the audit trail was changed in the database, or restored from a backup: run 'omni-secrets audit verify'")
			continue
		}
		if wanted(h) && h.Seq > last.Seq {
			points = append(points, s.cfg.CheckpointKey.Sign(h, now))
		}
	}
	if len(points) > 0 {
		if err := s.cfg.Chains.AddCheckpoints(ctx, points); err != nil {
			return err
		}
	}
	for _, c := range points {
		s.checkpoints.signed[c.Chain] = c
		s.log.LogAttrs(ctx, slog.LevelInfo, domain.EventAuditCheckpoint,
			slog.String("chain", c.Chain.String()), slog.String("replica", c.ReplicaID), slog.Int64("seq", c.Seq), slog.String("hash", c.Hash.String()),
			slog.Time("signedAt", c.SignedAt), slog.String("keyId", c.KeyID), slog.Any("signature", c.Signature))
	}
	s.checkpoints.last.Store(&now)
	return nil
}

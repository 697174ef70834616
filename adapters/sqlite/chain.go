package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	selectChain = `SELECT chain_id, replica_id, seq, hash FROM omni_audit_chains WHERE replica_id = ?`

	saveChain = `
INSERT INTO omni_audit_chains (chain_id, replica_id, seq, hash)
VALUES (?, ?, ?, ?)
ON CONFLICT (chain_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash`
)

// chains are the heads that a transaction moves on. The write lock keeps them from anybody else.
type chains struct {
	heads  map[string]*domain.ChainHead // by replica
	last   *domain.ChainHead
	linker domain.Linker
}

func newChains() *chains { return &chains{heads: make(map[string]*domain.ChainHead, 1)} }

// link makes e the next event of its replica's chain, which begins with it if there is none, and returns its place.
func (c *chains) link(ctx context.Context, tx *sql.Tx, e *domain.Event) (*domain.ChainHead, error) {
	if c.last == nil || c.last.ReplicaID != e.ReplicaID {
		h := c.heads[e.ReplicaID]
		if h == nil {
			var err error
			if h, err = chainHead(ctx, tx, e.ReplicaID); err != nil {
				return nil, err
			}
			c.heads[e.ReplicaID] = h
		}
		c.last = h
	}
	c.linker.Append(c.last, e)
	return c.last, nil
}

func chainHead(ctx context.Context, tx *sql.Tx, replicaID string) (*domain.ChainHead, error) {
	h := new(domain.ChainHead)
	err := scanChainHead(tx.QueryRowContext(ctx, selectChain, replicaID), h)
	if errors.Is(err, sql.ErrNoRows) {
		var random [8]byte
		_, _ = rand.Read(random[:]) // never fails
		*h, err = domain.BeginChain(domain.NewChainID(random), replicaID), nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit chain: %w", err)
	}
	return h, nil
}

// save stores where the chains end now.
func (c *chains) save(ctx context.Context, tx *sql.Tx) error {
	for _, h := range c.heads {
		if _, err := tx.ExecContext(ctx, saveChain, int64(h.Chain), h.ReplicaID, h.Seq, h.Hash[:]); err != nil {
			return fmt.Errorf("audit chain: %w", err)
		}
	}
	return nil
}

func scanChainHead(row interface{ Scan(...any) error }, h *domain.ChainHead) error {
	return row.Scan(&h.Chain, &h.ReplicaID, &h.Seq, (*chainHash)(&h.Hash))
}

// chainHash is a hash as the schema keeps it.
type chainHash domain.ChainHash

func (h *chainHash) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != len(h) {
		return errors.New("a hash is not stored as 32 bytes")
	}
	copy(h[:], b)
	return nil
}

const listChains = `SELECT chain_id, replica_id, seq, hash FROM omni_audit_chains ORDER BY replica_id`

// ChainHeads implements ports.AuditChains.
func (s *Store) ChainHeads(ctx context.Context) ([]domain.ChainHead, error) {
	return list(ctx, s, "list audit chains", func(rows *sql.Rows, h *domain.ChainHead) error { return scanChainHead(rows, h) }, listChains)
}

// list returns the rows of a query, each scanned into a T.
func list[T any](ctx context.Context, s *Store, doing string, scan func(*sql.Rows, *T) error, query string, args ...any) ([]T, error) {
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %s: %w", doing, explain(err))
	}
	all, err := collect(rows, func(one *T) error { return scan(rows, one) })
	if err != nil {
		return nil, fmt.Errorf("sqlite: %s: %w", doing, explain(err))
	}
	return all, nil
}

const insertCheckpoint = `
INSERT INTO omni_audit_checkpoints (chain_id, seq, hash, replica_id, signed_at, key_id, signature)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING`

// AddCheckpoints implements ports.AuditChains.
func (s *Store) AddCheckpoints(ctx context.Context, checkpoints []domain.Checkpoint) error {
	return s.write(ctx, "add audit checkpoints", func(tx *sql.Tx) error {
		for _, c := range checkpoints {
			_, err := tx.ExecContext(ctx, insertCheckpoint, int64(c.Chain), c.Seq, c.Hash[:], c.ReplicaID, timestamp(c.SignedAt), c.KeyID, c.Signature)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	listCheckpoints = `
SELECT chain_id, replica_id, seq, hash, signed_at, key_id, signature
FROM omni_audit_checkpoints
ORDER BY chain_id, seq`

	listLastCheckpoints = `
SELECT chain_id, replica_id, seq, hash, signed_at, key_id, signature
FROM omni_audit_checkpoints
WHERE (chain_id, seq) IN (SELECT chain_id, max(seq) FROM omni_audit_checkpoints GROUP BY chain_id)
ORDER BY chain_id`
)

func scanCheckpoint(rows *sql.Rows, c *domain.Checkpoint) error {
	return rows.Scan(&c.Chain, &c.ReplicaID, &c.Seq, (*chainHash)(&c.Hash), (*timestamp)(&c.SignedAt), &c.KeyID, &c.Signature)
}

// Checkpoints implements ports.AuditChains.
func (s *Store) Checkpoints(ctx context.Context) ([]domain.Checkpoint, error) {
	return list(ctx, s, "list audit checkpoints", scanCheckpoint, listCheckpoints)
}

// LastCheckpoints implements ports.AuditChains.
func (s *Store) LastCheckpoints(ctx context.Context) ([]domain.Checkpoint, error) {
	return list(ctx, s, "list the last audit checkpoints", scanCheckpoint, listLastCheckpoints)
}

const listMarks = `SELECT chain_id, seq, hash FROM omni_audit_pruned ORDER BY chain_id, seq`

// ChainMarks implements ports.AuditChains.
func (s *Store) ChainMarks(ctx context.Context) ([]domain.ChainMark, error) {
	return list(ctx, s, "list pruned audit events", func(rows *sql.Rows, m *domain.ChainMark) error {
		return rows.Scan(&m.Chain, &m.Seq, (*chainHash)(&m.Hash))
	}, listMarks)
}

const selectEventRows = `SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM omni_secret_access_events`

// EventRows implements ports.AuditChains.
func (s *Store) EventRows(ctx context.Context) (first, last int64, err error) {
	if err := s.readers.QueryRowContext(ctx, selectEventRows).Scan(&first, &last); err != nil {
		return 0, 0, fmt.Errorf("sqlite: rows of audit events: %w", explain(err))
	}
	return first, last, nil
}

const linkedEvents = `
SELECT id, event_id, secret_type, action, actor_type, actor_id, result, error_code, gcp_secret_version, source,
       duration_ms, request_id, replica_id, reason, recorded_at, chain_id, chain_seq, chain_hash
FROM omni_secret_access_events
WHERE id > ?
ORDER BY id
LIMIT ?`

// LinkedEvents implements ports.AuditChains.
func (s *Store) LinkedEvents(ctx context.Context, after int64, limit int) ([]domain.LinkedEvent, error) {
	return list(ctx, s, "read audit events", scanLinkedEvent, linkedEvents, after, limit)
}

func scanLinkedEvent(rows *sql.Rows, r *domain.LinkedEvent) error {
	var kind, code, version, source, request, replica, reason sql.NullString
	var recorded string
	var ms float64
	var chain, seq sql.NullInt64
	var hash []byte
	e := &r.Event
	err := rows.Scan(&r.Row, &r.EventID, &kind, &e.Action, &e.Actor.Type, &e.Actor.ID, &e.Result, &code, &version, &source,
		&ms, &request, &replica, &reason, &recorded, &chain, &seq, &hash)
	if err != nil {
		return err
	}
	e.Type, e.ErrorCode, e.Version, e.Source = domain.SecretType(kind.String), code.String, version.String, source.String
	e.RequestID, e.ReplicaID, e.Reason = request.String, replica.String, reason.String
	e.Duration = time.Duration(math.Round(ms * float64(time.Millisecond)))
	r.Chain, r.Seq = domain.ChainID(chain.Int64), seq.Int64
	linked := copy(r.Hash[:], hash) == len(r.Hash) && len(hash) == len(r.Hash) && chain.Valid && seq.Valid

	for _, text := range []sql.NullString{kind, code, version, source, request, replica, reason} {
		if text.Valid && text.String == "" {
			r.Foreign = "an absent text is '' in place of NULL"
		}
	}
	if e.ID, err = domain.ParseEventID(r.EventID); err != nil || e.ID.String() != r.EventID {
		r.Foreign = "its event_id is not of the form of one"
	}
	if e.RecordedAt, err = time.Parse(timeLayout, recorded); err != nil || formatted(e.RecordedAt) != recorded {
		r.Foreign = "its recorded_at is no time"
	}
	if inMilliseconds(e.Duration) != ms {
		r.Foreign = "its duration_ms is more exact than any that is measured"
	}
	if r.Chain != 0 && !linked {
		r.Foreign = "its link is not complete"
	}
	return nil
}

package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// chains are the heads that a transaction moves on. It holds their rows locked until it ends, so that nobody else links
// to the same event, and a link is taken only by what is committed.
type chains struct {
	heads  map[string]*domain.ChainHead // by replica
	stored map[string]int64             // the place up to which each was stored
	last   *domain.ChainHead
	linker domain.Linker
}

// In one order for everybody, so that two transactions with events of the same replicas cannot block each other for good.
const lockChainHeads = `
SELECT chain_id, replica_id, seq, hash
FROM omni_audit_chains
WHERE replica_id = ANY($1)
ORDER BY replica_id
FOR UPDATE`

const beginChain = `
INSERT INTO omni_audit_chains (chain_id, replica_id, seq, hash)
VALUES ($1, $2, $3, $4)
ON CONFLICT (replica_id) DO NOTHING`

// lockChains locks the chains of the events' replicas, and begins those that are not there.
func lockChains(ctx context.Context, tx pgx.Tx, events []domain.Event) (*chains, error) {
	var replicas []string
	for i := range events {
		if id := events[i].ReplicaID; i == 0 || id != events[i-1].ReplicaID && !slices.Contains(replicas, id) {
			replicas = append(replicas, id)
		}
	}
	slices.Sort(replicas)
	c := &chains{heads: make(map[string]*domain.ChainHead, len(replicas)), stored: make(map[string]int64, len(replicas))}
	for range 2 {
		rows, err := tx.Query(ctx, lockChainHeads, replicas)
		if err != nil {
			return nil, fmt.Errorf("audit chain: %w", err)
		}
		heads, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h domain.ChainHead, err error) {
			err = scanChainHead(row, &h)
			return h, err
		})
		if err != nil {
			return nil, fmt.Errorf("audit chain: %w", err)
		}
		for i := range heads {
			c.heads[heads[i].ReplicaID], c.stored[heads[i].ReplicaID] = &heads[i], heads[i].Seq
		}
		if len(c.heads) == len(replicas) {
			return c, nil
		}
		for _, id := range replicas {
			if c.heads[id] != nil {
				continue
			}
			var random [8]byte
			_, _ = rand.Read(random[:]) // never fails
			h := domain.BeginChain(domain.NewChainID(random), id)
			if _, err := tx.Exec(ctx, beginChain, int64(h.Chain), h.ReplicaID, h.Seq, h.Hash[:]); err != nil {
				return nil, fmt.Errorf("audit chain: %w", err)
			}
		}
	}
	return nil, errors.New("audit chain: one that was begun cannot be seen")
}

// link makes e the next event of its replica's chain and returns its place, which is good until the next call.
func (c *chains) link(e *domain.Event) *domain.ChainHead {
	if c.last == nil || c.last.ReplicaID != e.ReplicaID {
		c.last = c.heads[e.ReplicaID]
	}
	c.linker.Append(c.last, e)
	return c.last
}

const saveChain = `UPDATE omni_audit_chains SET seq = $1, hash = $2 WHERE chain_id = $3`

// store links and stores events, none of which may be there already, and where the chains end then.
func (c *chains) store(ctx context.Context, tx pgx.Tx, events []domain.Event) error {
	if _, err := tx.Conn().PgConn().CopyFrom(ctx, c.copied(events), copyEvents); err != nil {
		return err
	}
	batch := new(pgx.Batch)
	for _, h := range c.heads {
		if h.Seq != c.stored[h.ReplicaID] { // all of its events may have been stored already
			batch.Queue(saveChain, h.Seq, h.Hash[:], int64(h.Chain))
		}
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("audit chain: %w", err)
	}
	return nil
}

func scanChainHead(row pgx.Row, h *domain.ChainHead) error {
	return row.Scan(&h.Chain, &h.ReplicaID, &h.Seq, (*chainHash)(&h.Hash))
}

// chainHash is a hash as the schema keeps it.
type chainHash domain.ChainHash

// ScanBytes implements pgtype.BytesScanner.
func (h *chainHash) ScanBytes(b []byte) error {
	if len(b) != len(h) {
		return errors.New("a hash is not stored as 32 bytes")
	}
	copy(h[:], b)
	return nil
}

const listChains = `SELECT chain_id, replica_id, seq, hash FROM omni_audit_chains ORDER BY replica_id`

// ChainHeads implements ports.AuditChains.
func (s *Store) ChainHeads(ctx context.Context) ([]domain.ChainHead, error) {
	return read(ctx, s, "list audit chains", scanChainHead, listChains)
}

const insertCheckpoint = `
INSERT INTO omni_audit_checkpoints (chain_id, seq, hash, replica_id, signed_at, key_id, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (chain_id, seq) DO NOTHING`

// AddCheckpoints implements ports.AuditChains.
func (s *Store) AddCheckpoints(ctx context.Context, checkpoints []domain.Checkpoint) error {
	return s.write(ctx, "add audit checkpoints", func(ctx context.Context, tx pgx.Tx) error {
		batch := new(pgx.Batch)
		for _, c := range checkpoints {
			batch.Queue(insertCheckpoint, int64(c.Chain), c.Seq, c.Hash[:], c.ReplicaID, timestamp(c.SignedAt), c.KeyID, c.Signature)
		}
		return tx.SendBatch(ctx, batch).Close()
	})
}

const (
	listCheckpoints = `
SELECT chain_id, replica_id, seq, hash, signed_at, key_id, signature
FROM omni_audit_checkpoints
ORDER BY chain_id, seq`

	listLastCheckpoints = `
SELECT DISTINCT ON (chain_id) chain_id, replica_id, seq, hash, signed_at, key_id, signature
FROM omni_audit_checkpoints
ORDER BY chain_id, seq DESC`
)

func scanCheckpoint(row pgx.Row, c *domain.Checkpoint) error {
	return row.Scan(&c.Chain, &c.ReplicaID, &c.Seq, (*chainHash)(&c.Hash), (*timestamp)(&c.SignedAt), &c.KeyID, &c.Signature)
}

// Checkpoints implements ports.AuditChains.
func (s *Store) Checkpoints(ctx context.Context) ([]domain.Checkpoint, error) {
	return read(ctx, s, "list audit checkpoints", scanCheckpoint, listCheckpoints)
}

// LastCheckpoints implements ports.AuditChains.
func (s *Store) LastCheckpoints(ctx context.Context) ([]domain.Checkpoint, error) {
	return read(ctx, s, "list the last audit checkpoints", scanCheckpoint, listLastCheckpoints)
}

const listMarks = `SELECT chain_id, seq, hash FROM omni_audit_pruned ORDER BY chain_id, seq`

// ChainMarks implements ports.AuditChains.
func (s *Store) ChainMarks(ctx context.Context) ([]domain.ChainMark, error) {
	return read(ctx, s, "list pruned audit events", func(row pgx.Row, m *domain.ChainMark) error {
		return row.Scan(&m.Chain, &m.Seq, (*chainHash)(&m.Hash))
	}, listMarks)
}

const selectEventRows = `
SELECT coalesce((SELECT id FROM omni_secret_access_events ORDER BY id LIMIT 1), 0),
       coalesce((SELECT id FROM omni_secret_access_events ORDER BY id DESC LIMIT 1), 0)`

// EventRows implements ports.AuditChains.
func (s *Store) EventRows(ctx context.Context) (first, last int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.call)
	defer cancel()
	if err := s.pool.QueryRow(ctx, selectEventRows).Scan(&first, &last); err != nil {
		return 0, 0, fmt.Errorf("postgres: rows of audit events: %w", explain(err))
	}
	return first, last, nil
}

const linkedEvents = `
SELECT id, ` + linkedColumns + `
FROM omni_secret_access_events
WHERE id > $1
ORDER BY id
LIMIT $2`

// LinkedEvents implements ports.AuditChains.
func (s *Store) LinkedEvents(ctx context.Context, after int64, limit int) ([]domain.LinkedEvent, error) {
	return read(ctx, s, "read audit events", scanLinkedEvent, linkedEvents, after, limit)
}

func scanLinkedEvent(row pgx.Row, r *domain.LinkedEvent) error {
	var kind, code, version, source, request, replica, reason pgtype.Text
	var recorded pgtype.Timestamptz
	var ms float64
	var chain, seq pgtype.Int8
	var hash []byte
	e := &r.Event
	err := row.Scan(&r.Row, &r.EventID, &kind, &e.Action, &e.Actor.Type, &e.Actor.ID, &e.Result, &code, &version, &source,
		&ms, &request, &replica, &reason, &recorded, &chain, &seq, &hash)
	if err != nil {
		return err
	}
	e.Type, e.ErrorCode, e.Version, e.Source = domain.SecretType(kind.String), code.String, version.String, source.String
	e.RequestID, e.ReplicaID, e.Reason = request.String, replica.String, reason.String
	e.Duration = time.Duration(math.Round(ms * float64(time.Millisecond)))
	e.RecordedAt = recorded.Time.UTC()
	r.Chain, r.Seq = domain.ChainID(chain.Int64), seq.Int64
	linked := copy(r.Hash[:], hash) == len(r.Hash) && len(hash) == len(r.Hash) && chain.Valid && seq.Valid

	for _, text := range []pgtype.Text{kind, code, version, source, request, replica, reason} {
		if text.Valid && text.String == "" {
			r.Foreign = "an absent text is '' in place of NULL"
		}
	}
	if e.ID, err = domain.ParseEventID(r.EventID); err != nil || e.ID.String() != r.EventID {
		r.Foreign = "its event_id is not of the form of one"
	}
	if recorded.InfinityModifier != pgtype.Finite {
		r.Foreign = "its recorded_at is no time"
	}
	if float64(e.Duration)/float64(time.Millisecond) != ms {
		r.Foreign = "its duration_ms is more exact than any that is measured"
	}
	if r.Chain != 0 && !linked {
		r.Foreign = "its link is not complete"
	}
	return nil
}

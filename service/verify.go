package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// verifyPage is how many rows a check of the audit trail reads at a time.
const verifyPage = 2000

// AuditProof is what a check of the audit trail holds it against, beside what the database itself says.
type AuditProof struct {
	// Keys check the signatures of checkpoints. Without any, those of the database are taken as they are.
	Keys []domain.CheckpointPublicKey
	// Copies are checkpoints that were kept outside the database.
	Copies []domain.Checkpoint
	// Progress is called after every page: with the rows that were read, and how much of the trail they are, 0 to 1.
	Progress func(rows int64, part float64)
}

// VerifyAudit checks every row of the audit trail, page by page, also while events are stored and pruned. Its error is
// that of a database that does not answer; what is wrong with the trail is in the check.
func VerifyAudit(ctx context.Context, chains ports.AuditChains, proof AuditProof) (*domain.ChainCheck, error) {
	// In this order: what a checkpoint has seen must be in the heads, and what these have seen in the rows.
	points, err := chains.Checkpoints(ctx)
	if err != nil {
		return nil, err
	}
	points = append(points, proof.Copies...)
	heads, marks, err := chainEnds(ctx, chains)
	if err != nil {
		return nil, err
	}
	first, last, err := chains.EventRows(ctx)
	if err != nil {
		return nil, err
	}
	good, bad := sift(points, proof.Keys)
	check := domain.NewChainCheck(domain.ChainEvidence{Heads: heads, Marks: marks, Checkpoints: good, Now: time.Now()})
	for _, f := range bad {
		check.Report(f)
	}
	for after := first - 1; after < last; {
		rows, err := chains.LinkedEvents(ctx, after, verifyPage)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			check.Take(r)
		}
		after = rows[len(rows)-1].Row
		if proof.Progress != nil {
			read, _ := check.Rows()
			proof.Progress(read, min(1, float64(after-first+1)/float64(last-first+1)))
		}
	}
	if heads, marks, err = chainEnds(ctx, chains); err != nil {
		return nil, err
	}
	check.Finish(heads, marks)
	return check, nil
}

func chainEnds(ctx context.Context, chains ports.AuditChains) ([]domain.ChainHead, []domain.ChainMark, error) {
	heads, err := chains.ChainHeads(ctx)
	if err != nil {
		return nil, nil, err
	}
	marks, err := chains.ChainMarks(ctx)
	return heads, marks, err
}

// sift divides checkpoints into those whose signatures hold and what is to be said of the others. Without keys it
// believes all of them.
func sift(points []domain.Checkpoint, keys []domain.CheckpointPublicKey) (good []domain.Checkpoint, bad []domain.TamperFinding) {
	if len(keys) == 0 {
		return points, nil
	}
	for _, p := range points {
		if slices.ContainsFunc(keys, func(k domain.CheckpointPublicKey) bool { return k.Verifies(p) }) {
			good = append(good, p)
			continue
		}
		bad = append(bad, domain.TamperFinding{
			Kind: domain.TamperCheckpoint, Chain: p.Chain, ReplicaID: p.ReplicaID, Seq: p.Seq,
			Detail: fmt.Sprintf("no given public key verifies this checkpoint, which says that it was signed at %s by the key %q", p.SignedAt.Format(time.RFC3339), p.KeyID),
		})
	}
	return good, bad
}

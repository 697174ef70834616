package main

import (
	"context"
	"time"
)

const auditTrailCheck = "audit trail"

// checkCheckpoints tells whether the audit trail is signed, how old the last checkpoint of a chain that grew is, and
// whether one is of events that the chain no longer has.
func checkCheckpoints(ctx context.Context, db database, c config, now time.Time) finding {
	if c.auditKey.IsZero() {
		return found(auditTrailCheck, verdictWarning, "%s is not set: who owns the database could rewrite the audit trail unnoticed", auditKeyEnv).
			try("'omni-secrets keygen --audit' makes a key; give the signing key to the servers, and the public key to whoever runs 'omni-secrets audit verify'")
	}
	points, err := db.LastCheckpoints(ctx)
	if err != nil {
		return found(auditTrailCheck, verdictFailed, "%v", err)
	}
	heads, err := db.ChainHeads(ctx)
	if err != nil {
		return found(auditTrailCheck, verdictFailed, "%v", err)
	}
	signed := make(map[string]int64, len(points))
	var last time.Time
	for _, p := range points {
		signed[p.Chain.String()] = p.Seq
		if p.SignedAt.After(last) {
			last = p.SignedAt
		}
	}
	unsigned := int64(0)
	for _, h := range heads {
		since := h.Seq - signed[h.Chain.String()]
		if since < 0 {
			return found(auditTrailCheck, verdictFailed, "the chain %s of %s ends before its last checkpoint, at event %d and not %d", h.Chain, h.ReplicaID, h.Seq, signed[h.Chain.String()]).
				try("events were removed, or the checkpoint was put in: 'omni-secrets audit verify' tells which; then the runbook's \"The audit trail was changed\"")
		}
		unsigned += since
	}
	public := c.auditKey.Public()
	switch {
	case last.IsZero():
		return found(auditTrailCheck, verdictOK, "no checkpoint was signed yet; the servers will, with the key %s (public key %s)", public.ID(), public)
	case unsigned > 0 && now.Sub(last) > 3*c.AuditCheckpointEvery:
		return found(auditTrailCheck, verdictWarning, "the last checkpoint is %s old, and %d events came since", span(now.Sub(last)), unsigned).
			try("see whether a server runs and leads, and whether it has %s", auditKeyEnv)
	}
	return found(auditTrailCheck, verdictOK, "the last checkpoint is %s old; the key here is %s (public key %s)", span(now.Sub(last)), public.ID(), public)
}

package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	auditKeyEnv       = "OMNI_AUDIT_SIGNING_KEY"
	auditKeyFileEnv   = "OMNI_AUDIT_SIGNING_KEY_FILE"
	auditPublicKeyEnv = "OMNI_AUDIT_PUBLIC_KEY"
	auditEveryEnv     = "OMNI_AUDIT_CHECKPOINT_EVERY"
)

// Limits of OMNI_AUDIT_CHECKPOINT_EVERY.
const (
	shortestCheckpointEvery = 10 * time.Second
	longestCheckpointEvery  = 24 * time.Hour
)

// readAuditKey reads the key that signs checkpoints of the audit trail, when there is one.
func (c *config) readAuditKey() error {
	var errs []error
	if c.AuditCheckpointEvery < shortestCheckpointEvery || c.AuditCheckpointEvery > longestCheckpointEvery {
		errs = append(errs, fmt.Errorf("%s is %s, must be %s to %s", auditEveryEnv, c.AuditCheckpointEvery, shortestCheckpointEvery, longestCheckpointEvery))
	}
	from, text := auditKeyEnv, c.AuditKey.Reveal()
	if c.AuditKeyFile != "" {
		if len(text) > 0 {
			return errors.Join(append(errs, fmt.Errorf("%s and %s are both set; keep one", auditKeyEnv, auditKeyFileEnv))...)
		}
		var err error
		from = auditKeyFileEnv
		if text, err = os.ReadFile(c.AuditKeyFile); err != nil {
			return errors.Join(append(errs, fmt.Errorf("%s: %w", auditKeyFileEnv, err))...)
		}
	}
	if from == auditKeyEnv && len(text) == 0 {
		return errors.Join(errs...)
	}
	key, err := parseAuditKey(text)
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", from, err))
	}
	c.auditKey = key
	return errors.Join(errs...)
}

// parseAuditKey reads a signing key. Its error repeats nothing of it.
func parseAuditKey(text []byte) (domain.CheckpointKey, error) {
	seed, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(seed) != domain.CheckpointSeedBytes {
		return domain.CheckpointKey{}, errors.New("the key must be base64 of 32 bytes; 'omni-secrets keygen --audit' makes one")
	}
	return domain.NewCheckpointKey(seed)
}

package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
)

// keyVariables are the variables that a server takes keys and passwords from.
var keyVariables = []string{
	jwtSecretEnv, previousJWTEnv, privateKeyEnv, previousKeysEnv, auditKeyEnv, "DATABASE_URL", "OMNI_TOKEN",
}

// protectProcess keeps what a server holds from those who look at its process: no core dump is written, other
// processes of the same user cannot read its memory, and the variables that hold keys are overwritten where
// /proc/PID/environ and ps show them. The settings must have been read before. A server that cannot be protected runs
// all the same, and says so.
func protectProcess(ctx context.Context, log *slog.Logger) {
	// In this order: a process that cannot be dumped may not write to its own memory by way of /proc either.
	if err := wipeEnvironment(keyVariables); err != nil {
		log.WarnContext(ctx, "the environment may still show keys to this user and to root; give them in files instead", "err", err)
	}
	for _, name := range keyVariables {
		_ = os.Unsetenv(name)
	}
	if err := refuseDumps(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		log.WarnContext(ctx, "core dumps are not switched off; do it with ulimit -c 0", "err", err)
	}
}

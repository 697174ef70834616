package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/apex-tradebill/omni-secrets/adapters/gsm/emulator"
)

// seed makes a secret of every regular file of the folder, to the byte. Links to files count; folders and names
// that begin with a dot do not. A file that cannot be a secret is an error.
func seed(server *emulator.Server, o options, logger *slog.Logger) error {
	if o.seedDir == "" {
		return nil
	}
	entries, err := os.ReadDir(o.seedDir)
	if err != nil {
		return fmt.Errorf("--seed-dir: %w", err)
	}
	seeded := 0
	for _, entry := range entries {
		path := filepath.Join(o.seedDir, entry.Name())
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("--seed-dir: %w", err)
		}
		if entry.Name()[0] == '.' || !info.Mode().IsRegular() {
			continue
		}
		if info.Size() > emulator.MaxPayloadBytes {
			return fmt.Errorf("--seed-dir: %s has %d bytes, more than the %d that a secret may have", path, info.Size(), emulator.MaxPayloadBytes)
		}
		payload, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("--seed-dir: %w", err)
		}
		if _, err := server.Put("projects/"+o.project+"/secrets/"+entry.Name(), payload); err != nil {
			return fmt.Errorf("--seed-dir: make a secret of %s: %w", path, err)
		}
		seeded++
	}
	logger.Info("emulator.seeded", "project", o.project, "secrets", seeded)
	return nil
}

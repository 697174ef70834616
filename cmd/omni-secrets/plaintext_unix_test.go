//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// A shell's <(command) is a pipe whose permissions say nothing about who can read the value.
func TestPlaintextFromAPipeIsNotWarnedAbout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := os.WriteFile(path, []byte(plaintext), 0o644); err != nil {
			t.Error(err)
		}
	})
	var warnings bytes.Buffer
	value, err := readPlaintext(t.Context(), &streams{err: &warnings}, path, false)
	wg.Wait()
	if err != nil || string(value.Reveal()) != plaintext || warnings.Len() > 0 {
		t.Errorf("%v, warnings: %s", err, &warnings)
	}
}

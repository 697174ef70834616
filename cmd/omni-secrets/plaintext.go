package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"runtime"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// stdinPath stands for standard input where a file is asked for.
const stdinPath = "-"

// readPlaintext reads the value to inject from a file, or from standard input for stdinPath, until ctx is done.
func readPlaintext(ctx context.Context, s *streams, path string, trimNewline bool) (domain.Value, error) {
	source, name := s.in, "standard input"
	if path == stdinPath {
		if isTerminal(s.in) {
			s.warn("the value is shown as you type it; end it with Enter and Ctrl-D, and give --trim-newline")
		}
	} else {
		file, err := os.Open(path)
		if err != nil {
			return domain.Value{}, usageErrorf("--secret-value-file: %w", err)
		}
		defer file.Close()
		warnIfShared(s, file, "the plaintext")
		source, name = file, path
	}
	// Room for a newline of two bytes that is trimmed, and for one more byte that shows that there is too much.
	value, err := readAll(ctx, io.LimitReader(source, domain.MaxValueBytes+3))
	if ctx.Err() != nil {
		return domain.Value{}, failuref("read the value: %w; nothing was sent", errInterrupted)
	}
	if err != nil {
		return domain.Value{}, usageErrorf("--secret-value-file: %w", err)
	}
	switch rest, ends := bytes.CutSuffix(value, []byte("\n")); {
	case ends && trimNewline:
		value = bytes.TrimSuffix(rest, []byte("\r"))
	case ends:
		s.warn("the value in %s ends with a newline, which is sent as part of it; --trim-newline leaves it out", oneLine(name))
	}
	switch {
	case len(value) == 0:
		return domain.Value{}, usageErrorf("--secret-value-file: %s is empty", name)
	case len(value) > domain.MaxValueBytes:
		return domain.Value{}, usageErrorf("--secret-value-file: %s has more than %d KiB, the largest value there is", name, domain.MaxValueBytes>>10)
	}
	return domain.NewValue(value), nil
}

// readAll is io.ReadAll that also ends when ctx is done. A read of a terminal or a pipe cannot be called off: it stays
// behind in a process that is about to exit.
func readAll(ctx context.Context, source io.Reader) ([]byte, error) {
	var content []byte
	read := make(chan error, 1)
	go func() {
		var err error
		content, err = io.ReadAll(source)
		read <- err
	}()
	select {
	case err := <-read:
		return content, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// warnIfShared warns when others than its owner can read a file that holds something secret. Pipes and the
// like have no permissions worth a word, nor have files on Windows.
func warnIfShared(s *streams, file *os.File, what string) {
	about, err := file.Stat()
	if err != nil || !about.Mode().IsRegular() || runtime.GOOS == "windows" {
		return
	}
	if about.Mode().Perm()&0o044 != 0 {
		s.warn("%s in %s can be read by other users of this machine: chmod 600 %s", what, oneLine(file.Name()), shellWord(file.Name()))
	}
}

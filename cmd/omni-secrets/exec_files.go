package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// sharedMemory is where Linux has a tmpfs for everyone.
const sharedMemory = "/dev/shm"

// secretDir is a directory with a file for each value, all for one user alone.
type secretDir struct{ path string }

// newSecretDir makes one in the directory that the user chose, or else on a tmpfs.
func newSecretDir(s *streams, chosen string) (secretDir, error) {
	parent, err := filepath.Abs(chosen) // the command may work in another directory
	if err != nil {
		return secretDir{}, err
	}
	if chosen == "" {
		found, none := tmpfs(s.env("XDG_RUNTIME_DIR"), sharedMemory)
		if none != nil {
			return secretDir{}, none
		}
		parent = found
	} else if !inMemory(parent) {
		s.warn("--file-dir %s is not known to be a tmpfs: the values may reach a disk", oneLine(chosen))
	}
	path, err := os.MkdirTemp(parent, "omni-secrets-exec-") // mode 0700
	if err != nil {
		e := failuref("make a directory for --file: %w", err).try("name one by --file-dir DIR in which you may write")
		if chosen != "" {
			e.code = exitUsage
		}
		return secretDir{}, e
	}
	return secretDir{path}, nil
}

// tmpfs is the first of the directories that is on one.
func tmpfs(candidates ...string) (string, *exitError) {
	for _, dir := range candidates {
		if filepath.IsAbs(dir) && inMemory(dir) { // the specification has relative ones ignored
			return dir, nil
		}
	}
	return "", failuref("there is no tmpfs for --file: neither XDG_RUNTIME_DIR nor %s is one", sharedMemory).
		try("mount one and name it by --file-dir DIR, or name a directory on a disk, if that is allowed to have the values")
}

// file is the path of a value's file.
func (d secretDir) file(name string) string { return filepath.Join(d.path, name) }

// write puts a value into its file. A file that is there already is replaced as a whole or not at all.
func (d secretDir) write(name string, value domain.Value) error {
	file, err := os.CreateTemp(d.path, "."+name+".*")
	if err != nil {
		return fmt.Errorf("write the value for %s: %w", name, err)
	}
	_, err = file.Write(value.Reveal())
	err = errors.Join(err, file.Chmod(0o400), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), d.file(name))
	}
	if err != nil {
		return fmt.Errorf("write the value for %s: %w", name, errors.Join(err, os.Remove(file.Name())))
	}
	return nil
}

// writeFiles writes the file of each binding that has one.
func (x execution) writeFiles(dir secretDir, values map[string]domain.Value) error {
	for _, b := range x.bindings {
		if !b.file {
			continue
		}
		if err := dir.write(b.name, values[b.secretType]); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the directory and what is in it.
func (d secretDir) remove() error { return os.RemoveAll(d.path) }

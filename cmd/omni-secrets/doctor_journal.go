package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
)

const journalCheck = "journal"

// checkJournal looks at the folder of the audit journal without opening the journal.
func checkJournal(c config) finding {
	seen, err := journal.Inspect(c.JournalDir)
	if errors.Is(err, fs.ErrNotExist) {
		parent := existing(c.JournalDir)
		if !writable(parent) {
			return found(journalCheck, verdictFailed, "%s is missing, and this user may not make it: %s is not writable", c.JournalDir, parent).
				try("make the folder for the server's user, or set OMNI_AUDIT_JOURNAL_DIR to another one on a local disk")
		}
		return checkSpace(c, parent, 0, "its folder is made at the first start")
	}
	switch {
	case err != nil:
		return found(journalCheck, verdictFailed, "%v", err).try("give the server's user the folder, and run this as the same user")
	case !writable(c.JournalDir):
		return found(journalCheck, verdictFailed, "this user may not write %s: reads would be refused", c.JournalDir).
			try("give the server's user the folder, and run this as the same user")
	case seen.Corrupt > 0:
		return found(journalCheck, verdictWarning, "damaged files that end in .corrupt: %d in %s", seen.Corrupt, c.JournalDir).
			try("look into them (runbook: the journal is damaged)")
	case seen.SetAside > 0:
		return found(journalCheck, verdictWarning, "events that the database refused: %d in rejected.log of %s", seen.SetAside, c.JournalDir).
			try("mend what refuses them and give them back (runbook: events that the database refuses)")
	case seen.InUse:
		return checkSpace(c, c.JournalDir, seen.Bytes, "a running server has it open, as it should")
	}
	return checkSpace(c, c.JournalDir, seen.Bytes, "no server has it open")
}

// checkSpace compares the space that is left with what the journal may still take.
func checkSpace(c config, dir string, used int64, state string) finding {
	free, err := freeBytes(dir)
	if err != nil {
		return found(journalCheck, verdictWarning, "%s; how much space is left cannot be told: %v", state, err)
	}
	const mebi = 1 << 20
	advice := "free space on the disk of " + dir + ", or lower OMNI_AUDIT_JOURNAL_MAX_BYTES: without space, reads are refused"
	switch left := c.JournalMaxBytes - used; {
	case free < journal.DefaultSegmentBytes:
		return found(journalCheck, verdictFailed, "only %d MiB are left on its disk", free/mebi).try("%s", advice)
	case left < c.JournalMaxBytes/2:
		return found(journalCheck, verdictWarning, "%d MiB of events wait for the database, of %d MiB at most", used/mebi, c.JournalMaxBytes/mebi).
			try("see why the database does not take them: they can only wait here")
	case free < uint64(left): //nolint:gosec // left is positive
		return found(journalCheck, verdictWarning, "%s; %d MiB are left on its disk, and it may grow by %d MiB while the database is away", state, free/mebi, left/mebi).
			try("%s", advice)
	}
	return found(journalCheck, verdictOK, "%s; %d MiB are left on its disk", state, free/mebi)
}

// existing is path, or the nearest folder above it that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
		above := filepath.Dir(path)
		if above == path {
			return path
		}
		path = above
	}
}

// writable reports whether this user may write a file, or make files in a folder.
func writable(path string) bool {
	const write = 0x2
	return syscall.Access(path, write) == nil
}

// freeBytes is the space on the disk of dir that is free for this user.
func freeBytes(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil //nolint:gosec,unconvert // their types differ by system
}

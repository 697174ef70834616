// Package localfile reads secrets from the files of a folder: a developer's, or one into which Kubernetes or
// another agent mounts secrets. One file is one secret; its bytes, all of them, are the value.
//
// # Versions
//
// A file has one version, the present one, which "latest" asks for. Its name tells when the file last changed and which file it is:
//
//	20261123T191700.123456789Z-2a41f
//
// The first part is the inode's change time (ctime) in UTC, which sorts; the second the inode's number. Every
// write, rename or restored backup moves the ctime, also one that sets the modification time back
// (cp -p, rsync -t, tar), and no program can set it. The inode tells apart two files that were made in the same
// instant and put in each other's place. Nothing is derived from the content, so that a version, which is
// logged and stored, is no help in guessing a weak secret. A change of permissions is a new version too.
//
// File systems keep the ctime in steps of up to 10 ms, so that two writes can share one. Fetch therefore does
// not trust a file until its last change is a little in the past: it waits that long and looks again. Where the
// steps are longer (FAT, some network file systems), and on systems without a ctime, where the modification
// time stands in for it, replace files instead of writing into them.
//
// # Numbered versions
//
// Version 2 of the secret in trading_api_key is the file trading_api_key@2 beside it, so that a rotation can be tried
// where there is no Secret Manager: begun, promoted, aborted. Its name is the number, so its content must stay as it
// was first written; a new value gets the next number. A numbered version is served once a rotation has promoted it,
// until the file without a number changes. No reference may end in an @ and a number: it would be another
// secret's version.
//
// # Writing
//
// Replace a file by a rename, as Kubernetes does with its ..data link: a reader then gets the old value or the
// new one. A file that changes while it is read is read again, but a writer that pauses half-way through
// cannot be told from one that is done.
package localfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Name is what metrics, audit events and the catalog call this backend.
const Name = "local_file"

// Backend implements ports.SecretBackend. It is safe for concurrent use, and must be closed.
type Backend struct{ root *os.Root }

var _ ports.SecretBackend = (*Backend)(nil)

// New opens a folder. The folder itself is held open: one that is later put in its place under the same name
// is not seen.
func New(dir string) (*Backend, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder of secret files: %w", err)
	}
	return &Backend{root: root}, nil
}

// Close lets go of the folder. A Fetch that follows fails.
func (b *Backend) Close() error { return b.root.Close() }

// ValidateReference reports what is wrong with the name of a file. It must be a path within the folder, with
// slashes, without "." and "..", and not that of a numbered version. Whether the file exists is not asked.
func ValidateReference(reference string) error {
	if reference == "." || strings.ContainsRune(reference, 0) || !fs.ValidPath(reference) || !filepath.IsLocal(filepath.FromSlash(reference)) {
		return fmt.Errorf("reference %q must be the path of a file within the folder of secret files, such as trading_api_key", reference)
	}
	if at := strings.LastIndexByte(reference, '@'); at >= 0 && domain.NumberedVersion(reference[at+1:]) {
		return fmt.Errorf("reference %q is a version of %q; give the name without the number", reference, reference[:at])
	}
	return nil
}

// Fetch implements ports.SecretBackend. reference is the path of a file within the folder, with slashes; links
// are followed as long as they stay within it. version is "latest", the present version, or the number of one that is
// in a file of its own: others are not kept.
//
// The folder must be on a local file system: a read that the system blocks does not heed ctx.
func (b *Backend) Fetch(ctx context.Context, reference, version string) (domain.Fetched, error) {
	fetched, err := b.fetch(ctx, reference, version)
	if err != nil {
		return domain.Fetched{}, explain(err)
	}
	return fetched, nil
}

func (b *Backend) fetch(ctx context.Context, reference, version string) (domain.Fetched, error) {
	if err := ValidateReference(reference); err != nil {
		return domain.Fetched{}, fail(domain.ReasonNotFound, err)
	}
	file, numbered := reference, domain.NumberedVersion(version)
	if numbered {
		file += "@" + version
	}
	content, present, err := b.read(ctx, filepath.FromSlash(file))
	switch {
	case err != nil:
		return domain.Fetched{}, err
	case numbered:
		present = version
	case version != domain.LatestVersion && version != present:
		return domain.Fetched{}, fail(domain.ReasonNotFound, fmt.Errorf("%s has no version %q; it has %s", reference, version, present))
	}
	value := domain.NewValue(content)
	clear(content)
	return domain.Fetched{Value: value, Version: present}, nil
}

func fail(reason domain.Reason, err error) error { return &domain.FetchError{Reason: reason, Err: err} }

// explain gives an error of the system its reason. What is not known to be more is an outage.
func explain(err error) error {
	if _, ok := errors.AsType[*domain.FetchError](err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fail(domain.ReasonDeadlineExceeded, err)
	case errors.Is(err, fs.ErrNotExist):
		return fail(domain.ReasonNotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fail(domain.ReasonPermissionDenied, err)
	default:
		return fail(domain.ReasonUnavailable, err)
	}
}

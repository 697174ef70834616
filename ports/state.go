package ports

import (
	"context"
	"errors"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// ErrReplay refuses an override whose envelope was seen before.
var ErrReplay = errors.New("this envelope was used before")

// Metadata keeps one row for every secret of the catalog. All methods are safe for concurrent use.
type Metadata interface {
	// EnsureMetadata inserts the rows that are missing and brings the descriptive columns of the others
	// (environment, backend, reference, alias, owner) up to date; rotation state is never overwritten, but a secret
	// that is another one now, by its backend, reference or alias, forgets its newest and its pinned version, and a rotation of it that is in progress is aborted. For
	// each row that it inserted or changed it stores event(type), all in one transaction.
	EnsureMetadata(ctx context.Context, rows []domain.Metadata, event func(domain.SecretType) domain.Event) error

	// ListMetadata returns every row, ordered by type.
	ListMetadata(ctx context.Context) ([]domain.Metadata, error)

	// RecordServed notes where the values of secrets, each of another type, now come from and which versions they
	// are, in one transaction. Unless ValidatedAt is zero, it becomes last_validated_at. Unless First is empty, it
	// becomes the newest version of a secret that has none and is of that Origin. A type without a row is ignored.
	RecordServed(ctx context.Context, accounts []domain.Account) error
}

// Overrides keeps break-glass overrides. At most one per secret type is open: applied and not ended. All
// methods are safe for concurrent use, by any number of processes.
type Overrides interface {
	// ApplyOverride stores o, its follow-up and the event in one transaction, and ends the override of the same type
	// that is open, if any, as domain.EndReplaced with the event that ended returns for it. ErrReplay when an
	// override with the same digest was ever stored.
	ApplyOverride(ctx context.Context, o domain.Override, event domain.Event, ended func(domain.Override) domain.Event) error

	// EndOverride ends the override with this id, erases its ciphertext and stores the event, in one
	// transaction. It reports false, and stores nothing, when the override had ended already: of all callers
	// exactly one gets true.
	EndOverride(ctx context.Context, id string, end domain.OverrideEnd, event domain.Event) (bool, error)

	// OpenOverrides returns the overrides that have not been ended, expired ones included.
	OpenOverrides(ctx context.Context) ([]domain.Override, error)

	// FindOverride reports whether an override with this id was ever stored, and whether it is open, as one statement
	// sees it.
	FindOverride(ctx context.Context, id string) (known, open bool, err error)
}

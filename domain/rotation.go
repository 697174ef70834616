package domain

import "time"

// RotationStatus is where a secret stands in its rotation.
type RotationStatus string

const (
	RotationActive     RotationStatus = "active"
	RotationRotating   RotationStatus = "rotating"
	RotationDeprecated RotationStatus = "deprecated"
)

// RotationState is where a secret stands against its deadline.
type RotationState string

const (
	RotationCurrent RotationState = "current"
	RotationDueSoon RotationState = "due_soon"
	RotationOverdue RotationState = "overdue"
)

const (
	// RotationCheckEvery is the interval of the monitor.
	RotationCheckEvery = 15 * time.Minute
	// RotationWarning is how long before the deadline the warning begins.
	RotationWarning = 30 * 24 * time.Hour
)

// Metadata is a secret's row in omni_secret_metadata: what outlives the process.
type Metadata struct {
	Type                   SecretType
	Environment            string
	Backend                string
	GCPSecretID            string // the reference, whatever the backend
	GCPVersionAlias        string
	Status                 RotationStatus
	RotationDueAt          time.Time
	LastRotatedAt          time.Time // zero when never
	LastValidatedAt        time.Time // zero when never
	Owner                  string
	BreakGlassEnabledUntil time.Time // zero when no override is active
	CacheSource            string
	CacheVersion           string
	CreatedAt              time.Time
	UpdatedAt              time.Time
}

// NewMetadata is the first row of a catalog entry: its first rotation is due one period from now.
func NewMetadata(e Entry, environment string, now time.Time) Metadata {
	return Metadata{
		Type: e.Type, Environment: environment, Backend: e.Backend,
		GCPSecretID: e.Reference, GCPVersionAlias: e.Version,
		Status: RotationActive, RotationDueAt: RotationDue(now, e.RotationMonths),
		Owner: e.Owner, CacheSource: SourceEmpty, CreatedAt: now, UpdatedAt: now,
	}
}

// RotationDue is the deadline that follows a rotation: months calendar months later at the same time of day,
// on the last day of the month where the day does not exist (31 August + 6 months is 28 or 29 February).
func RotationDue(rotated time.Time, months int) time.Time {
	due := rotated.AddDate(0, months, 0)
	if due.Day() != rotated.Day() {
		due = due.AddDate(0, 0, -due.Day())
	}
	return due
}

// RotationStateAt is where a deadline stands at now.
func RotationStateAt(due, now time.Time) RotationState {
	switch {
	case now.After(due):
		return RotationOverdue
	case due.Sub(now) <= RotationWarning:
		return RotationDueSoon
	default:
		return RotationCurrent
	}
}

package domain

import (
	"cmp"
	"regexp"
	"time"
)

// RotationStatus is where a secret stands in its rotation.
//
//	         begin              promote: the new version is served, the next deadline counts from now
//	active ────────► rotating ────────► active
//	  │ ▲                └─────────────► active
//	  └─┘ record                abort: as before
//
// A deprecated secret is served and no longer rotated.
type RotationStatus string

const (
	RotationActive     RotationStatus = "active"
	RotationRotating   RotationStatus = "rotating"
	RotationDeprecated RotationStatus = "deprecated"
)

// RotationStep is what somebody does to a secret's rotation.
type RotationStep string

const (
	StepBegin   RotationStep = "begin"
	StepPromote RotationStep = "promote"
	StepAbort   RotationStep = "abort"
	StepRecord  RotationStep = "record" // a rotation that was made elsewhere
)

// After is the status that a step leads to from s. Its error, for every other step, is an *Error that says how things
// stand: CodeRotationInProgress, CodeNoRotation or CodeSecretDeprecated.
func (s RotationStatus) After(step RotationStep) (RotationStatus, error) {
	switch {
	case s == RotationDeprecated:
		return s, &Error{Code: CodeSecretDeprecated, Message: "the secret is deprecated: it is served and no longer rotated; replace it by another entry of the catalog"}
	case s == RotationActive && step == StepBegin:
		return RotationRotating, nil
	case s == RotationActive && step == StepRecord:
		return RotationActive, nil
	case s == RotationRotating && (step == StepPromote || step == StepAbort):
		return RotationActive, nil
	case s == RotationRotating:
		return s, &Error{Code: CodeRotationInProgress, Message: "the secret is rotating: promote or abort that rotation first"}
	default:
		return s, &Error{Code: CodeNoRotation, Message: "the secret is active: no rotation of it is in progress; begin one first"}
	}
}

// Rotation is one way of a secret to a new version, from begin to promote or abort.
type Rotation struct {
	ID      string
	Type    SecretType
	From    string // the version that is served until then; "" when there was none
	To      string // the version that is to take its place
	BegunBy Actor
	BegunAt time.Time
}

// RotationEnd says how a rotation ended.
type RotationEnd string

const (
	RotationPromoted RotationEnd = "promoted"
	RotationAborted  RotationEnd = "aborted"
)

// Origin is where the versions of a secret come from. The same version of another origin is another secret: while replicas
// are updated to a catalog that names another one, each follows what was decided about its own.
type Origin struct {
	Backend, Reference, Version string // as in Entry
}

// Origin is that of the entry.
func (e Entry) Origin() Origin { return Origin{e.Backend, e.Reference, e.Version} }

// Standing is which version of a secret is to be served, as the replicas agree on it.
type Standing struct {
	Type   SecretType
	Origin Origin // whose versions it is about
	Status RotationStatus
	// Newest is the newest version that was counted as a rotation or decided about by one; "" before the first fetch.
	Newest string
	// Pinned is the version that is served whatever the alias of the catalog stands for, until that is newer than
	// Newest; "" when the alias decides.
	Pinned string
	// Rotation is the one in progress; zero when none is.
	Rotation Rotation
}

// Rotated is a rotation that counts: when it was made, and when the next one is due. Zero for none.
type Rotated struct {
	At, DueAt time.Time
}

// RotatedAt is a rotation of the entry at a time.
func (e Entry) RotatedAt(at time.Time) Rotated {
	return Rotated{At: at, DueAt: RotationDue(at, e.RotationMonths)}
}

// Rotating reports whether a rotation is in progress: what the alias stands for is then left alone.
func (s Standing) Rotating() bool { return s.Status == RotationRotating }

// Follows reports whether a version that was found behind the alias is the one to serve.
func (s Standing) Follows(found string) bool {
	return s.Pinned == "" || found == s.Pinned || !s.Rotating() && CompareVersions(found, s.Newest) > 0
}

// AsksFor reports whether the version that the catalog names, an alias or a number, is to be looked at, and not just the
// pinned one: while nothing is pinned, and to see whether something newer is behind an alias.
func (s Standing) AsksFor(version string) bool {
	return s.Pinned == "" || !s.Rotating() && !NumberedVersion(version)
}

// FetchesAs reports whether a fetch under s ends in the same version as one under other: with nothing pinned, what the
// alias stands for is served, whatever was counted.
func (s Standing) FetchesAs(other Standing) bool {
	return s.Pinned == other.Pinned && (s.Pinned == "" || s == other)
}

// Finding is what a version behind the alias means.
type Finding int

const (
	FoundKnown  Finding = iota // nothing that was not known
	FoundFirst                 // the first version that was ever seen
	FoundNewer                 // somebody rotated the secret
	FoundBehind                // somebody went back to an older version
)

// Find says what it means that a version was found behind the alias and is served.
func (s Standing) Find(found string) Finding {
	switch {
	case found == "" || s.Rotating() || s.Pinned != "" && found == s.Pinned:
		return FoundKnown
	case s.Newest == "":
		return FoundFirst
	}
	switch order := CompareVersions(found, s.Newest); {
	case order > 0:
		return FoundNewer
	case order < 0:
		return FoundBehind
	default:
		return FoundKnown
	}
}

// Begun is the standing once r is in progress: what is served stays, and r's version is no news any more.
func (s Standing) Begun(r Rotation) Standing {
	s.Status, s.Pinned, s.Newest, s.Rotation = RotationRotating, r.From, newer(s.Newest, r.To), r
	return s
}

// Promoted is the standing once the rotation in progress has succeeded.
func (s Standing) Promoted() Standing { return s.ended(s.Rotation.To) }

// Aborted is the standing once the rotation in progress was given up.
func (s Standing) Aborted() Standing { return s.ended(s.Rotation.From) }

func (s Standing) ended(pinned string) Standing {
	s.Status, s.Pinned, s.Newest, s.Rotation = RotationActive, pinned, newer(s.Newest, s.Rotation.To), Rotation{}
	return s
}

// Counted is the standing once a version behind the alias counts as a rotation: the alias decides again.
func (s Standing) Counted(version string) Standing {
	s.Pinned, s.Newest = "", version
	return s
}

func newer(a, b string) string {
	if CompareVersions(a, b) < 0 {
		return b
	}
	return a
}

// CompareVersions orders the versions of one backend: numbers by their value, other names as text, since backends
// that do not count use names that sort in the order of their making. "" comes first, and numbers come before names: a
// backend that has both numbers what is rotated to, and names what its alias stands for, which must stay able to be newer.
func CompareVersions(a, b string) int {
	switch na, nb := NumberedVersion(a), NumberedVersion(b); {
	case na && nb && len(a) != len(b):
		return cmp.Compare(len(a), len(b))
	case na && !nb && b != "":
		return -1
	case nb && !na && a != "":
		return 1
	}
	return cmp.Compare(a, b)
}

// NumberedVersion reports whether a version is a number that a backend gave it: 1 or more, without leading zeros.
func NumberedVersion(version string) bool { return numberPattern.MatchString(version) }

var numberPattern = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)

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
	NewestVersion          string // see Standing
	PinnedVersion          string
	CreatedAt              time.Time
	UpdatedAt              time.Time
}

// Origin is that of the entry which the row describes.
func (m Metadata) Origin() Origin { return Origin{m.Backend, m.GCPSecretID, m.GCPVersionAlias} }

// Standing is which version of the secret is to be served.
func (m Metadata) Standing() Standing {
	return Standing{Type: m.Type, Origin: m.Origin(), Status: m.Status, Newest: m.NewestVersion, Pinned: m.PinnedVersion}
}

// RotationAt is where the secret stands against its deadline at now. A deprecated one has none any more.
func (m Metadata) RotationAt(now time.Time) RotationState {
	if m.Status == RotationDeprecated {
		return RotationCurrent
	}
	return RotationStateAt(m.RotationDueAt, now)
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

// RotationDue is the deadline that follows a rotation: months calendar months later at the same time of day in UTC, whose
// days are all whole, on the last day of the month where the day does not exist (31 August + 6 months is 28 or 29 February).
func RotationDue(rotated time.Time, months int) time.Time {
	rotated = rotated.UTC()
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

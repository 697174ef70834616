package domain

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Entry describes one secret of the catalog.
type Entry struct {
	Type           SecretType
	Backend        string // "gsm", "local_file"
	Reference      string // the secret's name in its backend
	Version        string // a version, or LatestVersion
	Owner          string
	RotationMonths int
	// Readers, when not empty, lists the subjects that may read the value; a trailing * stands for any ending.
	Readers []string
	// Overrides of the catalog-wide policy; 0 means none.
	TTL, MaxStale, DeniedGrace time.Duration
	// Validators are the rules that a new version must pass, in this order, before anybody uses it.
	Validators []Validator
}

// MayRead reports whether subject is among the entry's readers. Without readers everyone is, given the scope.
func (e Entry) MayRead(subject string) bool {
	if len(e.Readers) == 0 {
		return true
	}
	for _, r := range e.Readers {
		if prefix, open := strings.CutSuffix(r, "*"); r == subject || open && strings.HasPrefix(subject, prefix) {
			return true
		}
	}
	return false
}

// Policy is base with the entry's own numbers put in.
func (e Entry) Policy(base CachePolicy) CachePolicy {
	if e.TTL > 0 {
		base.TTL = e.TTL
	}
	if e.MaxStale > 0 {
		base.MaxStale = e.MaxStale
	}
	if e.DeniedGrace > 0 {
		base.DeniedGrace = e.DeniedGrace
	}
	return base
}

// Project is the cloud project that a reference of the form projects/PROJECT/... points into, or "".
func (e Entry) Project() string {
	rest, ok := strings.CutPrefix(e.Reference, "projects/")
	if !ok {
		return ""
	}
	project, _, _ := strings.Cut(rest, "/")
	return project
}

// Catalog is the fixed list of secrets that are served. A type outside it does not exist.
type Catalog []Entry

var (
	typePattern  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	errNoEntries = errors.New("catalog: it lists no secrets")
)

// WellFormed reports whether t could name a secret, and so may be repeated in logs and audit events.
func (t SecretType) WellFormed() bool { return typePattern.MatchString(string(t)) }

// Validate reports everything that is wrong with the catalog at once.
func (c Catalog) Validate() error {
	if len(c) == 0 {
		return errNoEntries
	}
	var errs []error
	seen := make(map[SecretType]bool, len(c))
	for i, e := range c {
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("catalog: entry %d (%s): %w", i+1, e.Type, fmt.Errorf(format, args...)))
		}
		if !e.Type.WellFormed() {
			wrong("type %q must match %s", e.Type, typePattern)
		}
		if seen[e.Type] {
			wrong("type is listed twice")
		}
		seen[e.Type] = true
		if e.Backend == "" {
			wrong("backend is missing")
		}
		if e.Reference == "" {
			wrong("reference is missing")
		}
		if e.Version == "" {
			wrong("version is missing; %q is the newest", LatestVersion)
		}
		if e.Owner == "" {
			wrong("owner is missing")
		}
		if e.RotationMonths < 1 || e.RotationMonths > 120 {
			wrong("rotationMonths is %d, must be 1 to 120", e.RotationMonths)
		}
		for _, r := range e.Readers {
			if r == "" || strings.Contains(strings.TrimSuffix(r, "*"), "*") {
				wrong("reader %q: one * is allowed, at the end", r)
			}
		}
		if e.TTL < 0 || e.MaxStale < 0 || e.DeniedGrace < 0 {
			wrong("policy durations must not be negative")
		}
		if len(e.Validators) > MaxValidators {
			wrong("it has %d validators, at most %d are allowed", len(e.Validators), MaxValidators)
		}
		for n, v := range e.Validators {
			for _, err := range v.mistakes() {
				wrong("validator %d: %w", n+1, err)
			}
		}
	}
	return errors.Join(errs...)
}

// ForeignProjects lists the entries that an environment must not touch: those that point into a production
// project while environment is anything but production.
func (c Catalog) ForeignProjects(environment string, production []string) []Entry {
	if environment == Production {
		return nil
	}
	var foreign []Entry
	for _, e := range c {
		for _, p := range production {
			if p != "" && p == e.Project() {
				foreign = append(foreign, e)
				break
			}
		}
	}
	return foreign
}

// Production is the name of the environment that may use production projects.
const Production = "production"

package ports

import (
	"context"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// CandidateValidator checks a new version of a secret before anybody uses it.
type CandidateValidator interface {
	// Validate returns nil when c passes rule, and a *domain.CheckError when it does not, could not be checked in
	// time, or may not be checked there. Any other error means that the rule itself is malformed.
	//
	// It bounds its own time to the rule's time-out, domain.MaxCheckTimeout at most, and returns soon after ctx is
	// done. It logs nothing, and no error holds the value or anything that was answered. The value leaves the
	// process only where an HTTPProbeRule says so. Safe for concurrent use.
	Validate(ctx context.Context, rule domain.Validator, c domain.Candidate) error
}

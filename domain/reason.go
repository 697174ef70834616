package domain

// Reason says why a secret could not be fetched or an override not be applied. Its text is the label value of
// omni_secret_failures_total and what clients see.
type Reason string

const (
	ReasonUnavailable       Reason = "unavailable"
	ReasonDeadlineExceeded  Reason = "deadline_exceeded"
	ReasonResourceExhausted Reason = "resource_exhausted"
	ReasonInternal          Reason = "internal"
	ReasonChecksumMismatch  Reason = "checksum_mismatch"
	ReasonPermissionDenied  Reason = "permission_denied"
	ReasonUnauthenticated   Reason = "unauthenticated"
	ReasonNotFound          Reason = "not_found"
	ReasonVersionDisabled   Reason = "version_disabled"
	ReasonInvalidPayload    Reason = "invalid_payload"
	ReasonLatestForbidden   Reason = "latest_forbidden"
	ReasonBreakGlassTTL     Reason = "break_glass_ttl"
	ReasonBreakGlassPayload Reason = "break_glass_payload"
	ReasonBreakGlassReplay  Reason = "break_glass_replay"
)

// Severity says what a failed fetch means for the value that is still in memory.
type Severity int

const (
	// Outage: the backend could not answer. The last good value is served, bounded by CachePolicy.MaxStale.
	Outage Severity = iota
	// Denied: the backend no longer lets us in. The last good value is served for CachePolicy.DeniedGrace.
	Denied
	// Authoritative: the backend says that there is no such value (any more). Nothing is served.
	Authoritative
)

// Severity of a failed fetch. What is not known to be authoritative is an outage.
func (r Reason) Severity() Severity {
	switch r {
	case ReasonNotFound, ReasonVersionDisabled, ReasonLatestForbidden:
		return Authoritative
	case ReasonPermissionDenied, ReasonUnauthenticated:
		return Denied
	default:
		return Outage
	}
}

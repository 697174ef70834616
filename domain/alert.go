package domain

// The names of alerts and of the other log events that on-call greps for.
const (
	AlertCacheFailure          = "omni.alert.cache_failure"
	AlertCacheFailureThreshold = "omni.alert.cache_failure.threshold"
	AlertCacheRecovered        = "omni.alert.cache_recovered"
	AlertBreakGlassApplied     = "omni.alert.break_glass_applied"
	AlertBreakGlassCleared     = "omni.alert.break_glass_cleared"
	AlertRotationOverdue       = "omni.rotation_overdue"
	AlertRotationDueSoon       = "omni.rotation_due_soon"
	AlertVersionRollback       = "omni.alert.version_rollback"
	AlertFollowUpOpen          = "omni.alert.break_glass_follow_up_open"
	AlertAuditChain            = "omni.alert.audit_chain"
	EventRotationBegun         = "omni.rotation_begun"
	EventRotationPromoted      = "omni.rotation_promoted"
	EventRotationAborted       = "omni.rotation_aborted"
	EventRotationDetected      = "omni.rotation_detected"
	AlertAuditJournalHigh      = "omni.alert.audit_journal_high"
	AlertAuditJournalLow       = "omni.alert.audit_journal_low"
	AlertAuditEventSetAside    = "omni.alert.audit_event_set_aside"
	AlertBreakGlassUnknown     = "omni.alert.break_glass_unknown"
	AlertMetadataMissing       = "omni.alert.metadata_missing"
	EventEnvironmentViolation  = "omni.environment_violation"
)

// CacheAlerts names the alerts that a fetch raises: after is the state that it left, before the one it found.
func (p CachePolicy) CacheAlerts(before, after CacheState) []string {
	switch {
	case after.Failures >= p.AlertThreshold && after.Failures > 0:
		return []string{AlertCacheFailure, AlertCacheFailureThreshold}
	case after.Failures > 0:
		return []string{AlertCacheFailure}
	case before.Failures > 0:
		return []string{AlertCacheRecovered}
	default:
		return nil
	}
}

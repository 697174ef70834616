// Package service is what Omni Secrets does: serve secrets from memory and keep them fresh, take overrides
// and end them, watch rotation deadlines, and leave an audit event for each of these. It decides who may do
// what, so that every edge decides alike.
//
// Each secret of the catalog has a slot: the value that was fetched last, and on top of it the override that
// an operator put there. Readers take both from an immutable snapshot and never wait for a lock:
//
//	       apply                 expiry, clear, explicit refresh that succeeded
//	none ---------> override ----------------------------------------------------> none
//
//	empty --fetched--> fresh --TTL--> stale --MaxStale, or an authoritative answer--> empty
//	                     ^              |
//	                     '---fetched----'
//
// The edges call the use cases (Read, Watch, Refresh, ApplyOverride, ClearOverride, Status, ListEvents); Run does
// the work that no one waits for.
package service

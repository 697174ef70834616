package domain

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AuditRetention is how long audit events are kept.
const AuditRetention = 90 * 24 * time.Hour

// Action is what an audit event records.
type Action string

const (
	ActionRead             Action = "read"
	ActionCacheRefresh     Action = "cache_refresh"
	ActionBreakGlassApply  Action = "break_glass_apply"
	ActionBreakGlassClear  Action = "break_glass_clear"
	ActionRotationPreview  Action = "rotation_preview"
	ActionRotationBegin    Action = "rotation_begin"
	ActionRotationPromote  Action = "rotation_promote"
	ActionRotationAbort    Action = "rotation_abort"
	ActionRotationDetected Action = "rotation_detected"
	ActionAccessDenied     Action = "access_denied"
	ActionWriteMetadata    Action = "write_metadata"
)

// Actions lists every action.
var Actions = []Action{
	ActionRead, ActionCacheRefresh, ActionBreakGlassApply, ActionBreakGlassClear, ActionRotationPreview,
	ActionRotationBegin, ActionRotationPromote, ActionRotationAbort, ActionRotationDetected,
	ActionAccessDenied, ActionWriteMetadata,
}

// Result is how the recorded action ended.
type Result string

const (
	ResultSuccess Result = "success"
	ResultFailure Result = "failure"
	ResultDenied  Result = "denied"
)

// Results lists every result.
var Results = []Result{ResultSuccess, ResultFailure, ResultDenied}

// EventID identifies an audit event: the start of the process that recorded it, and a count since. Recording
// the same event again is recognised by it.
type EventID struct {
	Start uint64 // random for every start
	Seq   uint64 // 1, 2, 3, ...
}

// String is the id as it stands in SQL, 16 hex digits for each part. Ids of one start sort in order.
func (id EventID) String() string {
	const digits = "0123456789abcdef"
	var s [16 + 1 + 16]byte // by hand, since every read makes one on its way to the database
	s[16] = '-'
	for i := range 16 {
		shift := 60 - 4*i
		s[i] = digits[id.Start>>shift&0xf]
		s[17+i] = digits[id.Seq>>shift&0xf]
	}
	return string(s[:])
}

// ParseEventID reads what String wrote.
func ParseEventID(s string) (EventID, error) {
	start, seq, ok := strings.Cut(s, "-")
	if !ok || len(start) != 16 || len(seq) != 16 {
		return EventID{}, fmt.Errorf("event id %q: want 16 hex digits, a dash and 16 more", s)
	}
	var id EventID
	var errs [2]error
	id.Start, errs[0] = strconv.ParseUint(start, 16, 64)
	id.Seq, errs[1] = strconv.ParseUint(seq, 16, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return EventID{}, fmt.Errorf("event id %q: %w", s, err)
	}
	return id, nil
}

// Event is one line of the audit trail. It never holds a value or a ciphertext.
type Event struct {
	ID         EventID
	Type       SecretType // "" when the action was on no one secret
	Action     Action
	Actor      Actor
	Result     Result
	ErrorCode  string // a Code or a Reason; "" on success
	Version    string // of the secret
	Source     string
	Duration   time.Duration
	RequestID  string
	ReplicaID  string
	Reason     string // why, in the actor's or the rule's words
	RecordedAt time.Time
}

// EventFilter selects audit events, newest first. Zero fields select everything.
type EventFilter struct {
	Type    SecretType
	Action  Action
	ActorID string
	Result  Result
	Since   time.Time // inclusive
	Until   time.Time // exclusive
	Limit   int       // 1 to MaxEventPage
	Before  int64     // only rows stored before this one; 0 for the newest
}

// Validate checks what callers write: its error is a CodeInvalidRequest that says what is possible.
func (f EventFilter) Validate() error {
	invalid := func(format string, args ...any) error {
		return &Error{Code: CodeInvalidRequest, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case f.Action != "" && !slices.Contains(Actions, f.Action):
		return invalid("action must be one of %v", Actions)
	case f.Result != "" && !slices.Contains(Results, f.Result):
		return invalid("result must be one of %v", Results)
	case f.Limit < 1 || f.Limit > MaxEventPage:
		return invalid("limit must be 1 to %d", MaxEventPage)
	}
	return nil
}

// Sizes of a page of audit events.
const (
	DefaultEventPage = 100
	MaxEventPage     = 1000
)

// EventPage is one page of audit events.
type EventPage struct {
	Events []Event
	Next   int64 // the Before of the next page; 0 when this was the last
}

// Cursor is Next as callers carry it to ask for the next page; "" after the last.
func (p EventPage) Cursor() string {
	if p.Next == 0 {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.Next, 10)))
}

// ParseCursor is the Before that a Cursor stands for. Its error is a CodeInvalidRequest.
func ParseCursor(cursor string) (int64, error) {
	digits, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		var before int64
		if before, err = strconv.ParseInt(string(digits), 10, 64); err == nil && before > 0 {
			return before, nil
		}
	}
	return 0, &Error{Code: CodeInvalidRequest, Message: "cursor must be the nextCursor of an earlier answer"}
}

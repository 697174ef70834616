package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// eventSink shows audit events page by page, so that a long trail needs little memory.
type eventSink interface {
	events(page []json.RawMessage) error
	// end is called after the last page; cursor is where the next one would begin, "" when there is none.
	end(cursor string) error
}

// auditEvent is the part of an event that the table shows.
type auditEvent struct {
	RecordedAt *time.Time `json:"recordedAt"`
	Action     string     `json:"action"`
	SecretType string     `json:"secretType"`
	ActorType  string     `json:"actorType"`
	ActorID    string     `json:"actorId"`
	Result     string     `json:"result"`
	ErrorCode  string     `json:"errorCode"`
	Source     string     `json:"source"`
	RequestID  string     `json:"requestId"`
	Reason     string     `json:"reason"`
}

// eventTable shows events as a table.
type eventTable struct {
	w     io.Writer
	table table
}

func newEventTable(w io.Writer) *eventTable {
	return &eventTable{w, table{columns: []string{"TIME", "ACTION", "TYPE", "ACTOR", "RESULT", "ERROR", "SOURCE", "REQUEST", "REASON"}}}
}

func (t *eventTable) events(page []json.RawMessage) error {
	for _, raw := range page {
		var e auditEvent
		if err := json.Unmarshal(raw, &e); err != nil {
			return failuref("list audit events: an event is not of the form that this program knows").
				try("-o json prints the events as they are")
		}
		t.table.add(instant(e.RecordedAt), e.Action, e.SecretType, e.actor(), e.Result, e.ErrorCode, e.Source, e.RequestID, e.Reason)
	}
	return t.table.flush(t.w)
}

func (*eventTable) end(string) error { return nil }

func (e auditEvent) actor() string {
	if e.ActorType == "" {
		return e.ActorID
	}
	return e.ActorType + ":" + e.ActorID
}

// eventDocument writes events as one JSON document of the same form as the server's pages.
type eventDocument struct {
	w       io.Writer
	written bool
}

func (d *eventDocument) events(page []json.RawMessage) error {
	for _, raw := range page {
		separator := ","
		if !d.written {
			separator = `{"data":[`
			d.written = true
		}
		if _, err := fmt.Fprintf(d.w, "%s%s", separator, printable(raw)); err != nil {
			return printed(err)
		}
	}
	return nil
}

func (d *eventDocument) end(cursor string) error {
	if !d.written {
		if _, err := io.WriteString(d.w, `{"data":[`); err != nil {
			return printed(err)
		}
	}
	next, err := json.Marshal(orNull(cursor))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.w, "],\"nextCursor\":%s}\n", printable(next))
	return printed(err)
}

// orNull is text, or nil for "".
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

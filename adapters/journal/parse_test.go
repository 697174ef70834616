package journal_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// payload is the JSON of the record of e.
func payload(e domain.Event) []byte {
	record := journal.AppendEvent(nil, &e)
	return record[len("00000000 ") : len(record)-1]
}

// wantBothTake checks that the parser takes a payload, and that encoding/json reads it alike.
func wantBothTake(t *testing.T, payload []byte) domain.Event {
	t.Helper()
	parsed, ok := journal.ParseEvent(payload)
	if !ok {
		t.Fatalf("the parser does not take %s", payload)
	}
	decoded, err := journal.DecodeOtherEvent(payload)
	if err != nil {
		t.Fatalf("the parser takes what encoding/json refuses, %q: %v", payload, err)
	}
	if diff := cmp.Diff(decoded, parsed); diff != "" {
		t.Fatalf("%q (-encoding/json +parser):\n%s", payload, diff)
	}
	return parsed
}

func TestParserTakesWhatIsWritten(t *testing.T) {
	for name, e := range map[string]domain.Event{
		"every member":         event(1),
		"what must be there":   {ID: domain.EventID{Start: 1<<64 - 1, Seq: 0}, RecordedAt: time.UnixMicro(0).UTC()},
		"the earliest time":    {RecordedAt: time.UnixMicro(-1 << 63).UTC(), Duration: -1 << 63},
		"the latest time":      {RecordedAt: time.UnixMicro(1<<63 - 1).UTC(), Duration: 1<<63 - 1},
		"every ASCII":          {RecordedAt: time.UnixMicro(1).UTC(), Reason: ascii(), RequestID: ascii(), Source: ascii()},
		"more than ASCII":      {RecordedAt: time.UnixMicro(1).UTC(), Reason: "ünïcode \u2028 秘密 🔑 \ufffd", Version: "é\"", Source: "秘密"},
		"a long string":        {RecordedAt: time.UnixMicro(1).UTC(), Source: strings.Repeat("long ", 100), Reason: strings.Repeat("\\", 1000)},
		"a quote at each side": {RecordedAt: time.UnixMicro(1).UTC(), ErrorCode: `"`, ReplicaID: `\`, Reason: `""`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(e, wantBothTake(t, payload(e))); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func ascii() string {
	var all []byte
	for c := range byte(0x80) {
		all = append(all, c)
	}
	return string(all)
}

// What else there is of JSON is left to encoding/json, good or bad.
func TestParserTakesNothingElse(t *testing.T) {
	const head = `{"id":"0000000000000001-0000000000000001","recordedAtMicros":1,"durationNanos":2`
	for name, payload := range map[string]string{
		"nothing":                       ``,
		"an empty object":               `{}`,
		"half an object":                head,
		"something behind":              head + `}}`,
		"a space behind":                head + `} `,
		"a space between":               head + ` }`,
		"members in another order":      head + `,"action":"read","type":"a"}`,
		"a member twice":                head + `,"type":"a","type":"b"}`,
		"an unknown member":             head + `,"tenant":"a"}`,
		"a key in another case":         head + `,"Type":"a"}`,
		"null":                          head + `,"type":null}`,
		"no digits":                     strings.Replace(head, `:2`, `:`, 1) + `}`,
		"a minus alone":                 strings.Replace(head, `:2`, `:-`, 1) + `}`,
		"a minus and nothing":           strings.Replace(head, `:2`, `:-0`, 1) + `}`,
		"a leading zero":                strings.Replace(head, `:2`, `:02`, 1) + `}`,
		"a negative leading zero":       strings.Replace(head, `:2`, `:-02`, 1) + `}`,
		"a fraction":                    strings.Replace(head, `:2`, `:2.0`, 1) + `}`,
		"an exponent":                   strings.Replace(head, `:2`, `:2e0`, 1) + `}`,
		"more than an int64":            strings.Replace(head, `:2`, `:9223372036854775808`, 1) + `}`,
		"less than an int64":            strings.Replace(head, `:2`, `:-9223372036854775809`, 1) + `}`,
		"more than a uint64":            strings.Replace(head, `:2`, `:18446744073709551618`, 1) + `}`,
		"far more than a uint64":        strings.Replace(head, `:2`, `:99999999999999999999999999`, 1) + `}`,
		"capital digits of an id":       strings.Replace(head, `01"`, `0A"`, 1) + `}`,
		"a short id":                    strings.Replace(head, `0001"`, `01"`, 1) + `}`,
		"a string without end":          head + `,"type":"a`,
		"an escape without end":         head + `,"type":"a\`,
		"half an escape":                head + `,"type":"a\u00`,
		"an escaped string without end": head + `,"type":"a\"`,
		"a line feed":                   head + ",\"type\":\"a\nb\"}",
		"a line feed behind an escape":  head + ",\"type\":\"\\\\a\nb\"}",
		"a short escape":                head + `,"type":"a\n"}`,
		"an escaped slash":              head + `,"type":"a\/"}`,
		"an escaped letter":             head + `,"type":"\u0041"}`,
		"an escaped space":              head + `,"type":"\u0020"}`,
		"capital digits of an escape":   head + `,"type":"\u001F"}`,
		"a surrogate":                   head + `,"type":"\ud800"}`,
		"no UTF-8":                      head + ",\"type\":\"a\xff\"}",
		"no UTF-8 behind an escape":     head + ",\"type\":\"\\\\\xff\"}",
	} {
		t.Run(name, func(t *testing.T) {
			if e, ok := journal.ParseEvent([]byte(payload)); ok {
				t.Errorf("it was taken as %+v", e)
			}
		})
	}
}

// Strings of one event must not end up in another, however they collide.
func TestSharedStringsStayApart(t *testing.T) {
	j := open(t, configIn(t.TempDir()))
	const events = 5000
	want := make([]domain.Event, events)
	for i := range want {
		want[i] = event(uint64(i))
		want[i].Actor.ID = strings.Repeat("a", i%100)
		want[i].Type = domain.SecretType("type_" + want[i].ID.String()[25:])
		if err := j.Append(t.Context(), want[i]); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
	got, err := j.Next(t.Context(), events)
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// An event costs its request id, and a batch what the file and the slice of its events cost.
func TestAllocationsOfNext(t *testing.T) {
	const size = 1000
	j := open(t, configIn(t.TempDir()))
	appendEvents(t, j, 1, size)
	ctx := t.Context()
	var failed error
	allocations := testing.AllocsPerRun(20, func() {
		if _, err := j.Next(ctx, size); err != nil {
			failed = err
		}
	})
	if failed != nil {
		t.Fatalf("Next: %v", failed)
	}
	if allocations > size+20 {
		t.Errorf("%v allocations for %d events, want one for each and some for all", allocations, size)
	}
}

// FuzzParse looks for what the parser takes and encoding/json refuses, or reads otherwise.
func FuzzParse(f *testing.F) {
	e := event(1)
	e.Reason = "say \"hi\"\n\\ 秘密"
	whole := payload(e)
	f.Add(whole)
	f.Add(payload(domain.Event{}))
	f.Add(bytes.Replace(whole, []byte(`\u000a`), []byte(`\u0022`), 1))
	f.Add(bytes.Replace(whole, []byte(`"gsm"`), []byte("\"\xff\""), 1))
	f.Add(bytes.Replace(whole, []byte(`:1500`), []byte(`:-0`), 1))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if _, ok := journal.ParseEvent(payload); ok {
			wantBothTake(t, payload)
		}
	})
}

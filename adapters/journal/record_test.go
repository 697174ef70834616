package journal_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// The format is what the next version has to read.
func TestRecordFormat(t *testing.T) {
	e := event(1)
	e.Reason = "say \"hi\"\n<&>"
	got := string(journal.AppendEvent(nil, &e))
	const want = `d7b4644a {"id":"0000000000abcdef-0000000000000001","recordedAtMicros":1772366401123456,"durationNanos":1500,` +
		`"type":"trading_api_key","action":"read","actorType":"service","actorId":"svc-orders","result":"success",` +
		`"version":"7","source":"gsm","requestId":"4f2c9a0e5b7d4e1f","replicaId":"replica-a","reason":"say \"hi\"\u000a<&>"}` + "\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	const id = `"id":"0000000000000001-0000000000000001"`
	for name, line := range map[string][]byte{
		"nothing":               nil,
		"less than a header":    []byte("0000000"),
		"a header alone":        []byte("00000000 "),
		"no space":              []byte("00000000-{}"),
		"letters for a digit":   []byte("0000000x {}"),
		"no event id":           journal.Seal(`{}`),
		"a bad event id":        journal.Seal(`{"id":"1-1"}`),
		"an unknown member":     journal.Seal(`{` + id + `,"tenant":"x"}`),
		"a member of that type": journal.Seal(`{` + id + `,"reason":1}`),
		"two objects":           journal.Seal(`{` + id + `}{}`),
		"half an object":        journal.Seal(`{` + id),
		"an array":              journal.Seal(`[]`),
		"null":                  journal.Seal(`null`),
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := journal.DecodeEvent(bytes.TrimSuffix(line, []byte("\n"))); err == nil {
				t.Errorf("it was taken as %+v", e)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	e := event(1)
	f.Add(bytes.TrimSuffix(journal.AppendEvent(nil, &e), []byte("\n")))
	f.Add(bytes.TrimSuffix(journal.Seal(`{"id":"0000000000000001-0000000000000001","Reason":"\ud800"}`), []byte("\n")))
	f.Add([]byte("00000000 {}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		first, err := journal.DecodeEvent(line)
		if err != nil {
			return
		}
		again, err := journal.DecodeEvent(encoded(t, first))
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("decoded again (-first +again):\n%s", diff)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(1), uint64(2), int64(1772366401123456789), int64(1500), "trading_api_key", "svc-orders", "why \"not\"\n\x00\xff\u2028")
	f.Add(uint64(0), uint64(1<<64-1), int64(-1), int64(-1), "", "", "\xed\xa0\x80 \\ \x7f 秘密")
	f.Fuzz(func(t *testing.T, start, seq uint64, recorded, took int64, secret, actor, reason string) {
		e := domain.Event{
			ID: domain.EventID{Start: start, Seq: seq}, Type: domain.SecretType(secret), Action: domain.Action(reason),
			Actor: domain.Actor{Type: domain.ActorType(actor), ID: secret}, Result: domain.Result(actor), ErrorCode: reason,
			Version: actor, Source: secret, Duration: time.Duration(took), RequestID: reason, ReplicaID: actor, Reason: reason,
			RecordedAt: time.Unix(0, recorded),
		}
		got, err := journal.DecodeEvent(encoded(t, e))
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		wantBothTake(t, payload(e))

		valid := func(s string) string { return string([]rune(s)) } // each invalid byte becomes U+FFFD
		want := e
		want.Type, want.Action, want.Result = domain.SecretType(valid(secret)), domain.Action(valid(reason)), domain.Result(valid(actor))
		want.Actor = domain.Actor{Type: domain.ActorType(valid(actor)), ID: valid(secret)}
		want.ErrorCode, want.Version, want.Source = valid(reason), valid(actor), valid(secret)
		want.RequestID, want.ReplicaID, want.Reason = valid(reason), valid(actor), valid(reason)
		want.RecordedAt = e.RecordedAt.UTC().Truncate(time.Microsecond)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	})
}

// encoded is the record of e without its line feed, checked to be one line of JSON.
func encoded(t *testing.T, e domain.Event) []byte {
	t.Helper()
	line, ok := bytes.CutSuffix(journal.AppendEvent(nil, &e), []byte("\n"))
	if !ok || bytes.ContainsAny(line, "\n") {
		t.Fatalf("%q is not one line", line)
	}
	if _, payload, _ := strings.Cut(string(line), " "); !json.Valid([]byte(payload)) {
		t.Fatalf("%q is not JSON", payload)
	}
	return line
}

// FuzzSegment lets a journal find a segment of any content, and drain what can be read of it.
func FuzzSegment(f *testing.F) {
	e := event(1)
	record := journal.AppendEvent(nil, &e)
	f.Add(record, uint16(0))
	f.Add(append(bytes.Repeat(record, 3), record[:20]...), uint16(len(record)))
	f.Add(append([]byte("garbage\n\n"), record...), uint16(3))
	f.Fuzz(func(t *testing.T, content []byte, offset uint16) {
		config := configIn(t.TempDir())
		rewrite(t, filepath.Join(config.Dir, "events-000000000001.log"), content)
		cursor, err := json.Marshal(map[string]int{"segment": 1, "offset": int(offset)})
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, filepath.Join(config.Dir, "cursor"), journal.Seal(string(cursor)))

		j := open(t, config)
		appendEvents(t, j, 7, 7)
		if got := drain(t, j); len(got) == 0 || got[len(got)-1] != 7 {
			t.Errorf("drained %v, want 7 at the end", got)
		}
		if _, err := os.Stat(filepath.Join(config.Dir, "events-000000000001.log")); !os.IsNotExist(err) {
			t.Errorf("the drained segment is still there: %v", err)
		}
	})
}

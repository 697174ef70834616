package domain_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

var linkedEvent = domain.Event{
	ID: domain.EventID{Start: 0x0102030405060708, Seq: 9}, Type: "trading_api_key", Action: domain.ActionRead,
	Actor: domain.Actor{Type: domain.ActorService, ID: "svc-orders"}, Result: domain.ResultSuccess, Version: "7",
	Source: "cache", Duration: 1500 * time.Microsecond, RequestID: "req-1", ReplicaID: "omni-0",
	RecordedAt: time.Date(2026, 11, 25, 12, 0, 0, 123456789, time.FixedZone("elsewhere", 3600)),
}

// The chain of a database is checked years later, and by programs of others: what is hashed is a contract
// (docs/audit-chain.md).
func TestLinksAreAContract(t *testing.T) {
	head := domain.BeginChain(domain.ChainID(0x0123456789abcdef), "omni-0")
	begin := sha256.Sum256([]byte("omni-secrets audit chain v1\n\x01\x23\x45\x67\x89\xab\xcd\xefomni-0"))
	if head.Hash != begin || head.Seq != 0 {
		t.Errorf("a chain begins with %s", head.Hash)
	}

	new(domain.Linker).Append(&head, &linkedEvent)
	b := append([]byte{1}, begin[:]...)
	b = append(b, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9)
	b = binary.BigEndian.AppendUint64(b, 1795604400123456) // 2026-11-25T11:00:00.123456Z
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(1.5))
	b = append(b, "\x0ftrading_api_key\x04read\x07service\x0asvc-orders\x07success\x00\x017\x05cache\x05req-1\x06omni-0\x00"...)
	if want := domain.ChainHash(sha256.Sum256(b)); head.Hash != want || head.Seq != 1 {
		t.Errorf("the first link is %d %s, want 1 %s", head.Seq, head.Hash, want)
	}
}

// Of two events that differ in what a row holds, no encoding is the same.
func FuzzLinkedColumns(f *testing.F) {
	f.Add(uint64(1), uint64(2), int64(3), int64(4), "trading_api_key\x00read\x00\x00svc\x00\x00\x00\x00\x00\x00omni-0\x00", "\x00")
	f.Add(uint64(0), uint64(1<<63), int64(-1), int64(0), "\x01\x02", "")
	f.Add(uint64(0), uint64(0), int64(math.MaxInt64/1000), int64(math.MinInt64/1000), strings.Repeat("x", 300), "x")
	f.Fuzz(func(t *testing.T, start, seq uint64, micros, nanos int64, columns, separator string) {
		texts := make([]string, 11)
		copy(texts, strings.SplitN(columns, separator, len(texts)))
		e := domain.Event{
			ID: domain.EventID{Start: start, Seq: seq}, RecordedAt: time.UnixMicro(micros), Duration: time.Duration(nanos),
			Type: domain.SecretType(texts[0]), Action: domain.Action(texts[1]),
			Actor: domain.Actor{Type: domain.ActorType(texts[2]), ID: texts[3]}, Result: domain.Result(texts[4]),
			ErrorCode: texts[5], Version: texts[6], Source: texts[7], RequestID: texts[8], ReplicaID: texts[9], Reason: texts[10],
		}
		encoded := domain.AppendLinked(nil, &e)

		// It can be read back, so that it stands for one event alone.
		r := bytes.NewReader(encoded)
		var numbers [4]uint64
		if err := binary.Read(r, binary.BigEndian, &numbers); err != nil {
			t.Fatal(err)
		}
		want := [4]uint64{start, seq, uint64(micros), math.Float64bits(float64(nanos) / 1e6)}
		if numbers != want {
			t.Errorf("numbers %x, want %x", numbers, want)
		}
		for i, text := range texts {
			n, err := binary.ReadUvarint(r)
			if err != nil || n > uint64(r.Len()) {
				t.Fatalf("text %d: length %d, %v", i, n, err)
			}
			got := make([]byte, n)
			_, _ = r.Read(got)
			if string(got) != text {
				t.Errorf("text %d is %q, want %q", i, got, text)
			}
		}
		if r.Len() > 0 {
			t.Errorf("%d bytes are left", r.Len())
		}
	})
}

func TestLinkingAllocatesNothing(t *testing.T) {
	head, linker, e := domain.BeginChain(1, "omni-0"), new(domain.Linker), linkedEvent
	linker.Append(&head, &e)
	if n := testing.AllocsPerRun(100, func() { linker.Append(&head, &e) }); n > 0 {
		t.Errorf("%v allocations for a link", n)
	}
}

func BenchmarkLink(b *testing.B) {
	head, linker, e := domain.BeginChain(1, "omni-0"), new(domain.Linker), linkedEvent
	b.ReportAllocs()
	for b.Loop() {
		linker.Append(&head, &e)
	}
}

func signingKey(t testing.TB, first byte) domain.CheckpointKey {
	t.Helper()
	seed := make([]byte, domain.CheckpointSeedBytes)
	seed[0] = first
	key, err := domain.NewCheckpointKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCheckpointSignatures(t *testing.T) {
	key := signingKey(t, 1)
	signed := key.Sign(domain.ChainHead{Chain: 7, ReplicaID: "omni-0", Seq: 42, Hash: domain.ChainHash{1}}, time.Unix(1795604400, 123456789))
	if !key.Public().Verifies(signed) {
		t.Fatal("its own key does not verify it")
	}
	if signingKey(t, 2).Public().Verifies(signed) {
		t.Error("another key verifies it")
	}
	for name, change := range map[string]func(*domain.Checkpoint){
		"chain":     func(c *domain.Checkpoint) { c.Chain++ },
		"place":     func(c *domain.Checkpoint) { c.Seq++ },
		"hash":      func(c *domain.Checkpoint) { c.Hash[31]++ },
		"time":      func(c *domain.Checkpoint) { c.SignedAt = c.SignedAt.Add(time.Microsecond) },
		"signature": func(c *domain.Checkpoint) { c.Signature = c.Signature[1:] },
	} {
		c := signed
		change(&c)
		if key.Public().Verifies(c) {
			t.Errorf("with another %s it is still verified", name)
		}
	}
	same, err := domain.ParseCheckpointPublicKey(key.Public().String())
	if err != nil || !same.Verifies(signed) {
		t.Errorf("the public key does not come back: %v", err)
	}
}

func TestSigningKeysAreNotPrinted(t *testing.T) {
	seed := []byte("a seed that nobody may ever see!")
	key, err := domain.NewCheckpointKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(struct{ Key domain.CheckpointKey }{key})
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{string(document), fmt.Sprint(key), fmt.Sprintf("%+v %#v", key, key)} {
		if strings.Contains(shown, "nobody may") || strings.Contains(shown, fmt.Sprintf("%x", seed)) || strings.Contains(shown, fmt.Sprint(seed)) {
			t.Errorf("the seed was printed: %s", shown)
		}
	}
}

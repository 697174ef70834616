package journal

import (
	"bytes"
	"hash/maphash"
	"math"
	"time"
	"unicode/utf8"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// parser reads the JSON that appendEvent writes: its members, in its order, without a space. It knows no more of
// JSON than that, and is some ten times as fast as encoding/json for it. What it does not take is not thereby bad; what
// it takes, encoding/json reads alike.
type parser struct {
	rest   []byte
	failed bool
}

// parseEvent reads what is between the checksum and the line feed. Strings that most events share are those of seen.
func parseEvent(payload []byte, seen *interned) (e domain.Event, ok bool) {
	p := parser{rest: payload}
	p.literal(`{"id":"`)
	e.ID.Start = p.hex(16)
	p.literal(`-`)
	e.ID.Seq = p.hex(16)
	p.literal(`","recordedAtMicros":`)
	e.RecordedAt = time.UnixMicro(p.integer()).UTC()
	p.literal(`,"durationNanos":`)
	e.Duration = time.Duration(p.integer())
	e.Type = domain.SecretType(seen.types.of(p.field(`,"type":"`)))
	e.Action = domain.Action(seen.actions.of(p.field(`,"action":"`)))
	e.Actor.Type = domain.ActorType(seen.actorTypes.of(p.field(`,"actorType":"`)))
	e.Actor.ID = seen.actors.of(p.field(`,"actorId":"`))
	e.Result = domain.Result(seen.results.of(p.field(`,"result":"`)))
	e.ErrorCode = seen.codes.of(p.field(`,"errorCode":"`))
	e.Version = seen.versions.of(p.field(`,"version":"`))
	e.Source = seen.sources.of(p.field(`,"source":"`))
	e.RequestID = string(p.field(`,"requestId":"`))
	e.ReplicaID = seen.replicas.of(p.field(`,"replicaId":"`))
	e.Reason = string(p.field(`,"reason":"`))
	p.literal(`}`)
	if p.failed || len(p.rest) > 0 {
		return domain.Event{}, false
	}
	return e, true
}

// literal goes past what must come next.
func (p *parser) literal(want string) {
	if len(p.rest) < len(want) || string(p.rest[:len(want)]) != want {
		p.fail()
		return
	}
	p.rest = p.rest[len(want):]
}

// fail leaves nothing to be read.
func (p *parser) fail() { p.rest, p.failed = nil, true }

// hex reads that many digits as appendHex writes them.
func (p *parser) hex(digits int) (n uint64) {
	if len(p.rest) < digits {
		p.fail()
		return 0
	}
	for _, c := range p.rest[:digits] {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			p.fail()
			return 0
		}
	}
	p.rest = p.rest[digits:]
	return n
}

// integer reads an int64 as strconv writes it.
func (p *parser) integer() int64 {
	digits, negative := bytes.CutPrefix(p.rest, []byte("-"))
	n, length := uint64(0), 0
	for length < len(digits) && '0' <= digits[length] && digits[length] <= '9' {
		length++
		if length > len("9223372036854775808") {
			p.fail()
			return 0
		}
		n = n*10 + uint64(digits[length-1]-'0')
	}
	largest := uint64(math.MaxInt64)
	if negative {
		largest++
	}
	if length == 0 || n > largest || digits[0] == '0' && (length > 1 || negative) {
		p.fail()
		return 0
	}
	p.rest = digits[length:]
	if negative {
		return -int64(n) // 1<<63 is its own negative
	}
	return int64(n)
}

// field reads the string of a member, or nothing when another member or the end comes next. key ends with the opening
// quote. The result is valid as long as the payload.
func (p *parser) field(key string) []byte {
	if len(p.rest) < len(key) || string(p.rest[:len(key)]) != key {
		return nil
	}
	value := p.rest[len(key):]
	all := byte(0)
	for i, c := range value {
		switch {
		case c == '"':
			p.rest = value[i+1:]
			value = value[:i]
			if all >= utf8.RuneSelf && !utf8.Valid(value) {
				p.fail()
				return nil
			}
			return value
		case c == '\\':
			return p.escaped(value, i)
		case c < ' ':
			p.fail()
			return nil
		}
		all |= c
	}
	p.fail()
	return nil
}

// escaped reads a string whose first backslash is at i.
func (p *parser) escaped(value []byte, i int) []byte {
	text := append(make([]byte, 0, 2*i+64), value[:i]...)
	for value = value[i:]; len(value) > 0; {
		c := value[0]
		switch {
		case c == '"':
			if !utf8.Valid(text) {
				p.fail()
				return nil
			}
			p.rest = value[1:]
			return text
		case c < ' ':
			p.fail()
			return nil
		case c != '\\':
			text, value = append(text, c), value[1:]
		case len(value) >= 2 && (value[1] == '"' || value[1] == '\\'):
			text, value = append(text, value[1]), value[2:]
		default:
			control := parser{rest: value}
			control.literal(`\u00`)
			c := control.hex(2)
			if control.failed || c >= ' ' {
				p.fail()
				return nil
			}
			text, value = append(text, byte(c)), control.rest
		}
	}
	p.fail()
	return nil
}

// interned are the strings that come again and again, so that they are not allocated for each event. Each member has
// slots of its own, so that what all events share is never in each other's way. The zero value is ready; for one
// goroutine.
type interned struct {
	types, actions, actorTypes, actors, results, codes, versions, sources, replicas slots
}

// slots hold one string each, and forget it for another that belongs there. Strings may come from outside: memory must
// not grow with them.
type slots [64]string

const longestInterned = 64 // bytes

var internSeed = maphash.MakeSeed()

// of is b as a string.
func (s *slots) of(b []byte) string {
	if len(b) == 0 || len(b) > longestInterned {
		return string(b)
	}
	slot := &s[maphash.Bytes(internSeed, b)%uint64(len(s))]
	if *slot != string(b) {
		*slot = string(b)
	}
	return *slot
}

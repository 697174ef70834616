package postgres

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// timestamp is a time as the schema keeps it, in UTC to the microsecond, the rest cut off; the zero time is
// NULL.
type timestamp time.Time

// TimestamptzValue implements pgtype.TimestamptzValuer.
func (t timestamp) TimestamptzValue() (pgtype.Timestamptz, error) {
	at := time.Time(t)
	return pgtype.Timestamptz{Time: at.Truncate(time.Microsecond), Valid: !at.IsZero()}, nil
}

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (t *timestamp) ScanTimestamptz(v pgtype.Timestamptz) error {
	if v.InfinityModifier != pgtype.Finite {
		return fmt.Errorf("a time is stored as %v", v.InfinityModifier)
	}
	*t = timestamp{}
	if v.Valid {
		*t = timestamp(v.Time.UTC())
	}
	return nil
}

// text is a string of which "" is NULL.
type text string

// TextValue implements pgtype.TextValuer.
func (t text) TextValue() (pgtype.Text, error) {
	return pgtype.Text{String: storable(string(t)), Valid: t != ""}, nil
}

// ScanText implements pgtype.TextScanner.
func (t *text) ScanText(v pgtype.Text) error {
	*t = text(v.String)
	return nil
}

// storable is s as PostgreSQL takes it, which refuses NUL and what is not UTF-8. Both may come from outside,
// such as in the subject of a token, and must not keep an event from being stored.
func storable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}

// milliseconds is a duration with a fraction, exact to the nanosecond up to 100 days.
type milliseconds time.Duration

// ScanFloat64 implements pgtype.Float64Scanner.
func (d *milliseconds) ScanFloat64(v pgtype.Float8) error {
	*d = milliseconds(math.Round(v.Float64 * float64(time.Millisecond)))
	return nil
}

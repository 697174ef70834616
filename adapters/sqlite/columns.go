package sqlite

import (
	"database/sql/driver"
	"fmt"
	"math"
	"time"
)

// timestamp is a time as the schema keeps it; the zero time is NULL.
type timestamp time.Time

const timeLayout = "2006-01-02T15:04:05.000000Z"

func (t timestamp) Value() (driver.Value, error) { return formatted(time.Time(t)), nil }

// formatted is t as a timestamp is kept, a string or nil.
func formatted(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(timeLayout)
}

func (t *timestamp) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = timestamp{}
		return nil
	case string:
		parsed, err := time.Parse(timeLayout, v)
		*t = timestamp(parsed)
		return err
	default:
		return fmt.Errorf("a time is stored as %T, want text", src)
	}
}

// text is a string of which "" is NULL.
type text string

func (t text) Value() (driver.Value, error) {
	if t == "" {
		return nil, nil
	}
	return string(t), nil
}

func (t *text) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = ""
		return nil
	case string:
		*t = text(v)
		return nil
	default:
		return fmt.Errorf("a text is stored as %T", src)
	}
}

// milliseconds is a duration with a fraction, exact to the nanosecond up to 100 days.
type milliseconds time.Duration

func (d milliseconds) Value() (driver.Value, error) { return inMilliseconds(time.Duration(d)), nil }

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (d *milliseconds) Scan(src any) error {
	ms, ok := src.(float64)
	if !ok {
		return fmt.Errorf("a duration is stored as %T, want a real number", src)
	}
	*d = milliseconds(math.Round(ms * float64(time.Millisecond)))
	return nil
}

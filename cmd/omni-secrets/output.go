package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// outputFormat is the value of --output.
type outputFormat string

const (
	formatText outputFormat = "text"
	formatJSON outputFormat = "json"
)

var outputFormats = []string{string(formatText), string(formatJSON)}

// String is the format's name; text when none was chosen.
func (f *outputFormat) String() string {
	if *f == "" {
		return string(formatText)
	}
	return string(*f)
}

// Set is called with what --output got.
func (f *outputFormat) Set(name string) error {
	if !slices.Contains(outputFormats, name) {
		return fmt.Errorf("it is one of %s", strings.Join(outputFormats, ", "))
	}
	*f = outputFormat(name)
	return nil
}

// Type is what help shows where it does not name the value.
func (*outputFormat) Type() string { return "format" }

// json reports whether --output asked for JSON.
func (s *streams) json() bool { return s.format == formatJSON }

// warn prints a line that does not change the exit code.
func (s *streams) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(s.err, "omni-secrets: warning: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

// print writes a result without what would disturb a terminal; what could not be written is an error of the command.
func (s *streams) print(format string, args ...any) error {
	_, err := io.WriteString(s.out, strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && disturbs(r) {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...)))
	return printed(err)
}

// printValue writes a result as JSON, on one line as the server does.
func (s *streams) printValue(v any) error {
	var document bytes.Buffer
	enc := json.NewEncoder(&document)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return printed(err)
	}
	return s.printDocument(document.Bytes())
}

// printDocument writes JSON that was decoded before, as the server sent it, but for what a terminal would take for a
// command: that is escaped, which means the same.
func (s *streams) printDocument(document []byte) error {
	_, err := s.out.Write(withNewline(printable(document)))
	return printed(err)
}

// printable escapes, in the strings of valid JSON, what oneLine takes out of text.
func printable(document []byte) []byte {
	safe := make([]byte, 0, len(document)+1)
	for rest := document; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1: // as a decoder reads it
			safe = append(safe, `\ufffd`...)
		case r == '\r': // between tokens, as all below a space
			safe = append(safe, ' ')
		case r >= ' ' && disturbs(r):
			safe = fmt.Appendf(safe, `\u%04x`, r)
		default:
			safe = append(safe, rest[:size]...)
		}
		rest = rest[size:]
	}
	return safe
}

func printed(err error) error {
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// withNewline is b with a newline at its end.
func withNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b
	}
	return append(slices.Clip(b), '\n')
}

// table prints rows in aligned columns. Flushed page by page, it prints the header once, and no column gets
// narrower than it was on the page before.
type table struct {
	columns []string
	rows    [][]string
	widths  []int
}

// add takes one cell for each column; an empty one is shown as a dash.
func (t *table) add(cells ...string) {
	for i, cell := range cells {
		if cells[i] = oneLine(cell); cells[i] == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

// flush prints the rows that were added since the last flush.
func (t *table) flush(w io.Writer) error {
	if t.widths == nil {
		t.widths = make([]int, len(t.columns))
		t.rows = append([][]string{t.columns}, t.rows...)
	}
	for _, row := range t.rows {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	t.rows = nil
	_, err := io.WriteString(w, b.String())
	return printed(err)
}

// oneLine makes text from elsewhere fit to print: control characters, with which it could move the cursor or
// pass for other lines, become spaces.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if disturbs(r) {
			return ' '
		}
		return r
	}, text))
}

// disturbs reports whether a character does something to a terminal, or to the text around it, in place of being shown.
// All of them are below U+10000.
func disturbs(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// instant is how tables and messages show a time.
func instant(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// span is a duration to the second, in the two largest units that it has: 41s, 4m10s, 3h5m, 12d6h.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Hour:
		return d.String()
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// shellWord quotes a word for the commands that messages suggest.
func shellWord(word string) string {
	plain := word != "" && strings.IndexFunc(word, func(r rune) bool {
		return !(r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("-_./:@%+=,", r))
	}) < 0
	if plain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// isTerminal reports whether a stream is one that a person looks at or types into.
func isTerminal(stream any) bool {
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(f.Fd())
}

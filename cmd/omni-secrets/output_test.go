package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTableKeepsItsColumns(t *testing.T) {
	var b bytes.Buffer
	table := table{columns: []string{"A", "B"}}
	for _, row := range [][]string{{"längst", "1"}, {"", "x\x1b[31m\ny"}} {
		table.add(row...)
		if err := table.flush(&b); err != nil {
			t.Fatal(err)
		}
	}
	if want := "A       B\nlängst  1\n-       x [31m y\n"; b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                    "plain",
		" two\nlines \n":           "two lines",
		"\x1b]0;title\x07":         "]0;title",
		"right\u202eto left\u2066": "right to left",
		"\u009b31m":                "31m",
		"bad \xff utf-8":           "bad \ufffd utf-8",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0:                               "0s",
		400 * time.Millisecond:          "0s",
		59*time.Minute + 59*time.Second: "59m59s",
		time.Hour:                       "1h0m",
		24*time.Hour - time.Millisecond: "1d0h",
		300*time.Hour + time.Minute:     "12d12h",
		-3 * time.Second:                "-3s",
	} {
		if got := span(in); got != want {
			t.Errorf("span(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"./tmp/secret.plaintext": "./tmp/secret.plaintext",
		"":                       "''",
		"my file":                "'my file'",
		"it's; rm -rf $HOME":     `'it'\''s; rm -rf $HOME'`,
		"clé":                    "'clé'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestFilesAndBuffersAreNoTerminals(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, stream := range []any{file, &bytes.Buffer{}, strings.NewReader(""), nil} {
		if isTerminal(stream) {
			t.Errorf("%T passes for a terminal", stream)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\x1b[2J\nb")
	f.Fuzz(func(t *testing.T, text string) {
		if got := oneLine(text); strings.ContainsAny(got, "\n\r\x1b\x00\u009b\u202e") {
			t.Errorf("oneLine(%q) = %q", text, got)
		}
	})
}

func FuzzPointInTime(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{"24h", "7d", "2026-03-01T00:00:00Z", "-1h", "32767d", "9999999h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := pointInTime("since", text, now)
		if err != nil {
			return
		}
		if again, err := time.Parse(time.RFC3339, instantOrNone(at)); text != "" && at.Year() >= 0 && at.Year() <= 9999 && (err != nil || !again.Equal(at)) {
			t.Errorf("%q is %s, which is sent as %s", text, at, instantOrNone(at))
		}
	})
}

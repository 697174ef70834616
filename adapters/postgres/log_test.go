package postgres_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"testing"
)

// logged keeps what is logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// messages lists the messages about the connection of this name, in order.
func (l *logged) messages(t *testing.T, connection string) []string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for decode := json.NewDecoder(bytes.NewReader(l.text.Bytes())); ; {
		var line struct{ Msg, Connection string }
		err := decode.Decode(&line)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("log: %v", err)
		}
		if line.Connection == connection {
			all = append(all, line.Msg)
		}
	}
}

const (
	isLost = "database connection is lost; trying to open it again"
	isBack = "database connection is back"
)

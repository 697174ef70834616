package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const countersPath = "/metrics"

// Series of a server's /metrics.
const (
	allocationsSeries = "go_memstats_mallocs_total"
	allocatedSeries   = "go_memstats_alloc_bytes_total"
	journalSeries     = "omni_audit_journal_events" // that are not in the database yet
)

var scraper = &http.Client{Timeout: patience}

// counters are those series of a server that it has.
func (s *server) counters(ctx context.Context) (map[string]float64, error) {
	_, body, err := s.get(ctx, countersPath, "")
	if err != nil {
		return nil, err
	}
	found := make(map[string]float64)
	for scanner := bufio.NewScanner(strings.NewReader(string(body))); scanner.Scan(); {
		name, value, _ := strings.Cut(scanner.Text(), " ")
		switch name {
		case allocationsSeries, allocatedSeries, journalSeries:
			if found[name], err = strconv.ParseFloat(value, 64); err != nil {
				return nil, fmt.Errorf("GET %s: %s is %q", countersPath, name, value)
			}
		}
	}
	return found, nil
}

// get is a request outside of a measurement.
func (s *server) get(ctx context.Context, path, bearer string) (http.Header, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	answer, err := scraper.Do(r)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("GET %s: %s: %s", path, answer.Status, body)
	}
	return answer.Header, body, nil
}

// awaitQuiet waits until the server has no audit event left to move to its database.
func (s *server) awaitQuiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 4*patience, errNotDrained)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		found, err := s.counters(ctx)
		if err != nil {
			return err
		}
		if found[journalSeries] == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

var errNotDrained = errors.New("its audit events do not reach the database in time; shorten -duration")

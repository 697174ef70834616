package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

// watched is an open watch of one secret, read by its own goroutine.
type watched struct {
	values chan string // each value that was told
	end    chan error
}

// watch opens a watch of the key and waits for its first value.
func (s *server) watch(t testing.TB, inner *http.Client, token string) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	stream, err := secretsv1connect.NewSecretsServiceClient(bearerClient{inner, token}, s.api).
		WatchSecrets(ctx, &secretsv1.WatchSecretsRequest{SecretTypes: []string{string(apiKey)}})
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{values: make(chan string, 100), end: make(chan error, 1)}
	go func() {
		for stream.Receive() {
			if secret := stream.Msg().GetSecret(); secret != nil {
				w.values <- string(secret.GetValue())
			}
		}
		w.end <- stream.Err()
		_ = stream.Close()
	}()
	return w
}

// want waits for a value.
func (w *watched) want(t testing.TB, value string) {
	t.Helper()
	select {
	case got := <-w.values:
		if got != value {
			t.Fatalf("told another value than the one that is served")
		}
	case err := <-w.end:
		t.Fatalf("the watch ended: %v", err)
	case <-time.After(patience):
		t.Fatalf("not told within %v", patience)
	}
}

// Two replicas, a watcher on each: whatever is done on one is told by both. When a replica stops, its watchers are
// told to go elsewhere; every value that was told stands in SQL.
func TestWatchersOfReplicas(t *testing.T) {
	gsm := startEmulator(t)
	prepared := prepareReplicas(t, postgrestest.NewServer(t), gsm, "replica-a", "replica-b")
	a, b := prepared[0].start(t), prepared[1].start(t)
	onA, onB := a.watch(t, streaming, sign(t, a.secret, "svc-a", domain.ScopeRead.String())), b.watch(t, streaming, sign(t, b.secret, "svc-b", domain.ScopeRead.String()))
	both := func(value string) {
		t.Helper()
		onA.want(t, value)
		onB.want(t, value)
	}
	first := gsm.values[apiKey]
	both(first)

	a.do("POST", glassPath, a.ops, sealedBody(t, a, "injected-value-of-a-drill")).want(http.StatusCreated, "")
	both("injected-value-of-a-drill")
	b.do("DELETE", glassPath+"/"+string(apiKey), b.ops, "").want(http.StatusNoContent, "")
	both(first)
	gsm.rotate(apiKey, "gsm-value-of-trading_api_key-v2")
	a.do("POST", refreshPath, a.service, "").want(http.StatusAccepted, "")
	both("gsm-value-of-trading_api_key-v2")

	a.stop()
	if err := <-onA.end; connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("the watch on A ended with %v", err)
	} else if _, info := errorInfo(t, err); info.GetCode() != string(domain.CodeShuttingDown) {
		t.Errorf("the watch on A ended with %v", info)
	}
	b.wantEvents(4, "actor_id = 'svc-a' AND action = 'read'")
	b.wantEvents(4, "actor_id = 'svc-b' AND action = 'read'")
	if value := b.metric("rpc_server_call_duration_seconds_count", "rpc_method", "omni.secrets.v1.SecretsService/WatchSecrets"); value != "" {
		t.Errorf("a watch that goes on is measured: %s", value)
	}
	for _, s := range []*server{a, b} {
		s.wantNoTrace(first, "injected-value-of-a-drill", "gsm-value-of-trading_api_key-v2")
	}
}

// manyWatchers opens watches, each on a connection of its own, as so many processes would.
func (s *server) manyWatchers(t testing.TB, n int) []*watched {
	t.Helper()
	token := sign(t, s.secret, "svc-fleet", domain.ScopeRead.String())
	all := make([]*watched, n)
	var opening sync.WaitGroup
	for i := range all {
		opening.Go(func() {
			transport := &http.Transport{DialContext: (&net.Dialer{Timeout: patience}).DialContext}
			t.Cleanup(transport.CloseIdleConnections)
			all[i] = s.watch(t, &http.Client{Transport: transport}, token)
		})
	}
	opening.Wait()
	return all
}

// spread makes a change and returns how long it took until the last watcher was told.
func spread(t testing.TB, all []*watched, value string, change func()) time.Duration {
	t.Helper()
	told := make(chan error, len(all))
	began := time.Now()
	for _, w := range all {
		go func() {
			for {
				select {
				case got := <-w.values:
					if got != value {
						continue
					}
					told <- nil
				case err := <-w.end:
					told <- errors.Join(errors.New("the watch ended"), err)
				case <-time.After(patience):
					told <- fmt.Errorf("not told within %v", patience)
				}
				return
			}
		}()
	}
	change()
	for range all {
		if err := <-told; err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(began)
}

const fleet = 1000

// TestThousandWatchers checks that all of a thousand watchers are told of every change. That they are told within 250 ms
// is for BenchmarkThousandWatchers to say.
func TestThousandWatchers(t *testing.T) {
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint).start(t)
	all := s.manyWatchers(t, fleet)
	for _, w := range all {
		w.want(t, gsm.values[apiKey])
	}
	var took []time.Duration
	for i := range 5 {
		value := fmt.Sprintf("injected-value-%d-of-a-drill", i)
		body := sealedBody(t, s, value)
		took = append(took, spread(t, all, value, func() { s.do("POST", glassPath, s.ops, body).want(http.StatusCreated, "") }))
	}
	t.Logf("%d watchers were told within %v of the request", fleet, took)
	s.wantEvents(fleet*6, "actor_id = 'svc-fleet' AND action = 'read'")
	s.stop()
	for _, w := range all {
		if err := <-w.end; connect.CodeOf(err) != connect.CodeUnavailable {
			t.Fatalf("a watch ended with %v", err)
		}
	}
}

// BenchmarkThousandWatchers measures the time from the request of an override until the last of a thousand watchers
// was told.
func BenchmarkThousandWatchers(b *testing.B) {
	gsm := startEmulator(b)
	s := prepareServe(b, gsm.endpoint, anyNumberOfOverrides).start(b)
	all := s.manyWatchers(b, fleet)
	for _, w := range all {
		w.want(b, gsm.values[apiKey])
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		value := fmt.Sprintf("injected-%d", i)
		body := sealedBody(b, s, value)
		took = append(took, spread(b, all, value, func() { s.do("POST", glassPath, s.ops, body).want(http.StatusCreated, "") }))
	}
	slices.Sort(took)
	b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
	b.ReportMetric(milliseconds(took[len(took)-1]), "max-ms")
}

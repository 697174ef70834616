package clienttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/client"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

// rpc is the server's side of the protocol.
type rpc struct {
	secretsv1connect.UnimplementedSecretsServiceHandler

	server *Server
}

func (r *rpc) GetSecret(ctx context.Context, req *secretsv1.GetSecretRequest) (*secretsv1.GetSecretResponse, error) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.authenticate(ctx); err != nil {
		return nil, err
	}
	if err := s.refusal(req.GetSecretType()); err != nil {
		return nil, err
	}
	one := s.secrets[req.GetSecretType()]
	message := s.state(req.GetSecretType(), one).GetSecret()
	if message == nil {
		info := &secretsv1.ErrorInfo{Code: "SECRET_UNAVAILABLE", Withdrawn: one.withdrawn}
		return nil, failWith(connect.CodeUnavailable, info, fmt.Sprintf("%s has no value that may be served: its backend answered %s", req.GetSecretType(), one.reason))
	}
	one.reads++
	return &secretsv1.GetSecretResponse{Secret: message}, nil
}

func (r *rpc) WatchSecrets(ctx context.Context, req *secretsv1.WatchSecretsRequest, stream *connect.ServerStream[secretsv1.WatchSecretsResponse]) error {
	s := r.server
	s.mu.Lock()
	token, err := s.authenticate(ctx)
	for _, name := range req.GetSecretTypes() {
		if err == nil {
			err = s.refusal(name)
		}
	}
	stopping := s.stopping
	if err == nil && stopping == nil { // it came in a moment before Stop
		err = errStopping()
	}
	if err == nil {
		s.watches++
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.watches--
		}()
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}

	w := &watcher{server: s, token: token, types: req.GetSecretTypes(), sent: map[string]sentState{}}
	for {
		messages, next, err := w.look()
		if err != nil {
			return err
		}
		for _, message := range messages {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		timer := time.NewTimer(next.after)
		select {
		case <-next.changed:
		case <-timer.C:
		case <-stopping:
			err = errStopping()
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// watcher is one stream.
type watcher struct {
	server  *Server
	token   string
	types   []string // none: all that may be read
	sent    map[string]sentState
	greeted bool // the first KeepAlive was sent
	spoke   time.Time
}

// sentState tells states of a secret apart.
type sentState struct {
	revision int
	override bool
}

// wakeUp is when a watcher must look again.
type wakeUp struct {
	changed <-chan struct{}
	after   time.Duration
}

// look returns what is to be sent now.
func (w *watcher) look() ([]*secretsv1.WatchSecretsResponse, wakeUp, error) {
	s := w.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.accepted, w.token) {
		return nil, wakeUp{}, fail(connect.CodeUnauthenticated, "UNAUTHENTICATED", "the token has expired")
	}
	next := wakeUp{changed: s.changed, after: s.keepAlive}
	if s.holding {
		return nil, next, nil
	}
	now := time.Now()
	var messages []*secretsv1.WatchSecretsResponse
	for _, name := range slices.Sorted(maps.Keys(s.secrets)) {
		one := s.secrets[name]
		_, known := w.sent[name]
		if len(w.types) > 0 && !slices.Contains(w.types, name) || one.forbidden && !known {
			continue
		}
		state := sentState{revision: one.revision, override: one.endsAt.After(now)}
		if state.override {
			next.after = min(next.after, one.endsAt.Sub(now))
		}
		if known && w.sent[name] == state {
			continue
		}
		w.sent[name] = state
		messages = append(messages, s.state(name, one))
	}
	if !w.greeted || len(messages) == 0 && now.Sub(w.spoke) >= s.keepAlive {
		w.greeted = true
		alive := &secretsv1.KeepAlive{IntervalSeconds: uint32(s.keepAlive / time.Second)}
		messages = append(messages, &secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_KeepAlive{KeepAlive: alive}})
	}
	if len(messages) > 0 {
		w.spoke = now
	}
	next.after = min(next.after, w.spoke.Add(s.keepAlive).Sub(now))
	return messages, next, nil
}

// authenticate returns the token of a call. s.mu is held.
func (s *Server) authenticate(ctx context.Context) (string, error) {
	s.requests++
	token := ""
	if call, ok := connect.CallInfoForHandlerContext(ctx); ok {
		token, _ = strings.CutPrefix(call.RequestHeader().Get("Authorization"), "Bearer ")
	}
	if !slices.Contains(s.accepted, token) {
		return "", fail(connect.CodeUnauthenticated, "UNAUTHENTICATED", "the token is not valid")
	}
	return token, nil
}

// refusal is why a secret may not be read. s.mu is held.
func (s *Server) refusal(name string) error {
	one := s.secrets[name]
	switch {
	case one == nil:
		return fail(connect.CodeNotFound, "UNKNOWN_SECRET_TYPE", "the catalog does not list this secret type")
	case one.forbidden:
		return fail(connect.CodePermissionDenied, "FORBIDDEN", "the catalog does not list this subject among the readers of "+name)
	}
	return nil
}

// state is what there is to tell of a secret. s.mu is held.
func (s *Server) state(name string, one *secret) *secretsv1.WatchSecretsResponse {
	now := time.Now()
	stamp := func(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t.Add(s.skew)) }
	served := &secretsv1.Secret{SecretType: name, ServedAt: stamp(now)}
	switch {
	case one.endsAt.After(now):
		served.Value, served.Source = []byte(one.override), client.SourceBreakGlass
		served.Version = fmt.Sprintf("bg-%d", one.overrideID)
		served.FetchedAt, served.ExpiresAt = stamp(one.appliedAt), stamp(one.endsAt)
	case one.value == "":
		gone := &secretsv1.SecretUnavailable{SecretType: name, Reason: one.reason, Withdrawn: one.withdrawn}
		return &secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_Unavailable{Unavailable: gone}}
	default:
		served.Value, served.Source, served.Version = []byte(one.value), "gsm", fmt.Sprint(one.versions)
		served.FetchedAt, served.ExpiresAt = stamp(one.fetchedAt), stamp(now.Add(ttl))
		if !one.staleAt.IsZero() {
			served.Stale, served.ExpiresAt = true, stamp(one.staleAt)
		}
	}
	return &secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_Secret{Secret: served}}
}

func errStopping() error {
	return fail(connect.CodeUnavailable, "SHUTTING_DOWN", "the server stops; another one goes on")
}

// fail is an error as the real server sends it.
func fail(code connect.Code, name, message string) error {
	return failWith(code, &secretsv1.ErrorInfo{Code: name}, message)
}

func failWith(code connect.Code, info *secretsv1.ErrorInfo, message string) error {
	err := connect.NewError(code, errors.New(message))
	info.RequestId = "clienttest"
	detail, detailErr := connect.NewErrorDetail(info)
	if detailErr != nil {
		panic(detailErr) // a message of ours always encodes
	}
	err.AddDetail(detail)
	return err
}

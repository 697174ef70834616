package service

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Call is one request to a use case: who makes it, and the id under which logs and audit events know it.
type Call struct {
	Principal domain.Principal
	RequestID string

	credentials Credentials // that were checked; zero when nothing was
}

// Credentials are what a request brings to say whose it is.
type Credentials struct {
	Authorization string              // the header (RFC 6750, section 2.1)
	Certificates  []*x509.Certificate // the client's, its own first; only such as the TLS handshake has verified
	Address       string              // host:port of the peer, as net/http gives it
}

// Authenticate finds out whose request it is: by its token when it has one, else by its client certificate. A refusal is
// audited, unless there are too many of them: see Limits.
//
// Errors are *domain.Error: CodeUnauthenticated, and CodeRateLimited with RetryAfter in its place after many of those from
// one address. Credentials that are good are never refused for what others did.
func (s *Service) Authenticate(ctx context.Context, credentials Credentials, requestID string) (Call, error) {
	call := Call{RequestID: requestID, credentials: credentials}
	var err error
	if call.Principal, err = s.verify(ctx, credentials); err != nil {
		return call, s.refuseUnauthenticated(ctx, call, err)
	}
	return call, nil
}

// refuseUnauthenticated audits a refusal as long as there are few of them. Anybody can cause one, so an event for each
// would let anybody fill the journal.
func (s *Service) refuseUnauthenticated(ctx context.Context, call Call, err error) error {
	if wait := s.failed.take(ctx, addressGroup(call.credentials.Address), domain.Anonymous); wait > 0 {
		return tooMany("too many requests without a valid token from this address; get a valid token before the next one", wait)
	}
	if !s.failed.recordable() {
		return err
	}
	e := s.event(call, domain.ActionAccessDenied, "", domain.ResultDenied)
	e.ErrorCode, e.Reason = string(domain.CodeUnauthenticated), err.Error()
	s.note(ctx, e)
	return err
}

func (s *Service) verify(ctx context.Context, c Credentials) (domain.Principal, error) {
	refused := func(why string) (domain.Principal, error) {
		return domain.Principal{}, &domain.Error{Code: domain.CodeUnauthenticated, Message: why}
	}
	var principal domain.Principal
	var err error
	if c.Authorization == "" && len(c.Certificates) > 0 && s.cfg.Certificates != nil {
		principal, err = s.cfg.Certificates.Verify(c.Certificates)
	} else {
		if c.Authorization == "" {
			return refused("send a token: Authorization: Bearer <JWT>")
		}
		scheme, token, ok := strings.Cut(c.Authorization, " ")
		if token = strings.TrimSpace(token); !ok || token == "" || !strings.EqualFold(scheme, "Bearer") {
			return refused("the Authorization header must be: Bearer <JWT>")
		}
		principal, err = s.cfg.Tokens.Verify(ctx, token)
	}
	switch {
	case err != nil:
		return refused(err.Error())
	case domain.ReservedSubject(principal.Subject):
		return refused("the subject is a name that the audit trail uses for itself; take another one")
	}
	return principal, nil
}

// authentic reports, by an error, that what the call was let in with is no longer good, or stands for somebody else now.
func (s *Service) authentic(ctx context.Context, call Call) error {
	if call.credentials.Authorization == "" && len(call.credentials.Certificates) == 0 {
		return nil
	}
	now, err := s.verify(ctx, call.credentials)
	if err == nil && now != call.Principal {
		return &domain.Error{Code: domain.CodeUnauthenticated, Message: "what the certificate allows has changed; connect again"}
	}
	return err
}

// RequestID names a request: as its caller does when that is a plain word, otherwise with the start of this process and
// a count.
func (s *Service) RequestID(callers string) string {
	if plainWord(callers) {
		return callers
	}
	return s.requests.next()
}

func plainWord(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 64
}

type requestIDs struct {
	start string
	count *atomic.Uint64
}

func newRequestIDs() requestIDs {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return requestIDs{start: hex.EncodeToString(b[:]), count: new(atomic.Uint64)}
}

func (ids requestIDs) next() string {
	id := make([]byte, 0, 40) // stays on the stack: one allocation for both parts
	id = append(append(id, ids.start...), '-')
	return string(strconv.AppendUint(id, ids.count.Add(1), 10))
}

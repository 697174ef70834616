package service

import (
	"context"
	"crypto/rand"
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

	authorization string // that was checked; "" when nothing was
}

// Authenticate finds out whose request it is by its Authorization header (RFC 6750, section 2.1). A refusal is audited.
//
// Errors are *domain.Error: CodeUnauthenticated.
func (s *Service) Authenticate(ctx context.Context, authorization, requestID string) (Call, error) {
	call := Call{RequestID: requestID, authorization: authorization}
	var err error
	if call.Principal, err = s.verify(ctx, authorization); err != nil {
		e := s.event(call, domain.ActionAccessDenied, "", domain.ResultDenied)
		e.ErrorCode, e.Reason = string(domain.CodeUnauthenticated), err.Error()
		s.note(ctx, e)
	}
	return call, err
}

func (s *Service) verify(ctx context.Context, authorization string) (domain.Principal, error) {
	refused := func(why string) (domain.Principal, error) {
		return domain.Principal{}, &domain.Error{Code: domain.CodeUnauthenticated, Message: why}
	}
	if authorization == "" {
		return refused("send a token: Authorization: Bearer <JWT>")
	}
	scheme, token, ok := strings.Cut(authorization, " ")
	if token = strings.TrimSpace(token); !ok || token == "" || !strings.EqualFold(scheme, "Bearer") {
		return refused("the Authorization header must be: Bearer <JWT>")
	}
	principal, err := s.cfg.Tokens.Verify(ctx, token)
	if err != nil {
		return refused(err.Error())
	}
	return principal, nil
}

// authentic reports, by an error, that the token of the call is no longer good.
func (s *Service) authentic(ctx context.Context, call Call) error {
	if call.authorization == "" {
		return nil
	}
	_, err := s.verify(ctx, call.authorization)
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

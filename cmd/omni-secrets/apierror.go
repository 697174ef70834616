package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// problem is an error of the REST API: RFC 9457 with the members that Omni Secrets adds.
type problem struct {
	Title     string         `json:"title"`
	Detail    string         `json:"detail"`
	Code      domain.Code    `json:"code"`
	RequestID string         `json:"requestId"`
	Failures  []fetchFailure `json:"failures"`
}

// fetchFailure is why one secret could not be fetched.
type fetchFailure struct {
	SecretType string `json:"secretType"`
	Reason     string `json:"reason"`
}

// evicted reports whether the failure took away the value that was in memory.
func (f fetchFailure) evicted() bool {
	return domain.Reason(f.Reason).Severity() == domain.Authoritative
}

// refreshAdvice says what to do about secrets that could not be refreshed.
func refreshAdvice(failures []fetchFailure) string {
	if slices.ContainsFunc(failures, fetchFailure.evicted) {
		return "add or enable the version, then refresh; in an emergency: 'omni-secrets breakglass --help'"
	}
	return "'omni-secrets status' shows what is still served; try again when the backend is back"
}

// check takes the code of the check that a version did not pass off the end of a detail that has it there in brackets.
func (p problem) check() (detail string, code domain.CheckCode, ok bool) {
	at := strings.LastIndex(p.Detail, " (")
	if p.Code != domain.CodeVersionRejected || at < 0 || !strings.HasSuffix(p.Detail, ")") {
		return "", "", false
	}
	return p.Detail[:at], domain.CheckCode(p.Detail[at+len(" (") : len(p.Detail)-len(")")]), true
}

// refusalError is an answer outside 2xx.
type refusalError struct {
	doing   string
	status  int
	problem problem
}

// Error is one line for the operator, with the code and the request id to quote.
func (e *refusalError) Error() string {
	message := e.problem.Detail
	if message == "" {
		message = e.problem.Title
	}
	if message == "" {
		message = strings.TrimSpace(fmt.Sprintf("the server answered %d %s", e.status, http.StatusText(e.status)))
	}
	var marks []string
	if e.problem.Code != "" {
		marks = append(marks, string(e.problem.Code))
	}
	if without, code, ok := e.problem.check(); ok {
		message = without
		marks = append(marks, string(code))
	}
	if e.problem.RequestID != "" {
		marks = append(marks, "request id "+e.problem.RequestID)
	}
	if len(marks) > 0 {
		message += " (" + strings.Join(marks, ", ") + ")"
	}
	return e.doing + ": " + oneLine(message)
}

// refusal reads an answer outside 2xx. What is not a problem document is not shown: it is not known whose words
// they are.
func (c *apiClient) refusal(r call, res *http.Response, body []byte) *exitError {
	refused := &refusalError{doing: r.doing, status: res.StatusCode}
	if kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err == nil && kind == "application/problem+json" {
		// The token is taken out of everything, in case that the server repeats it.
		if c.token != "" {
			body = []byte(strings.ReplaceAll(string(body), c.token, "[token]"))
		}
		if json.Unmarshal(body, &refused.problem) != nil {
			refused.problem = problem{}
		}
	}
	return &exitError{code: exitCodeOf(res.StatusCode), err: refused, next: c.nextStep(r, refused, res.Header)}
}

// exitCodeOf is the exit code for a status outside 2xx.
func exitCodeOf(status int) int {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitNotAllowed
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return exitUnavailable
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return exitRefused
	default:
		return exitFailure
	}
}

// nextStep says what the user can do about a refusal.
func (c *apiClient) nextStep(r call, e *refusalError, header http.Header) string {
	switch e.problem.Code {
	case domain.CodeUnknownSecretType:
		return "'omni-secrets status' lists the secret types of this server"
	case domain.CodeNoBreakGlass:
		return "no override is in place; 'omni-secrets status' shows where each value comes from"
	case domain.CodeInvalidBreakGlassTTL:
		return clockAdvice(header, time.Now())
	case domain.CodeInvalidBreakGlassPayload:
		return "check that OMNI_BREAKGLASS_PUBLIC_KEY belongs to the server's private key, and that the server takes this --envelope-version"
	case domain.CodeBreakGlassDisabled:
		return "give the server OMNI_BREAKGLASS_PRIVATE_KEY; 'omni-secrets keygen' makes a pair"
	case domain.CodeSecretUnavailable:
		return "'omni-secrets status' says why; in an emergency an operator can inject a value: 'omni-secrets breakglass --help'"
	case domain.CodeRefreshFailed:
		return refreshAdvice(e.problem.Failures)
	case domain.CodeRotationInProgress:
		return "'omni-secrets rotate status' shows that rotation; 'omni-secrets rotate promote' and 'rotate abort' end it"
	case domain.CodeNoRotation:
		return "'omni-secrets rotate status' shows how things stand; 'omni-secrets rotate begin' begins a rotation"
	case domain.CodeSecretDeprecated:
		return "ask the secret's owner, whom 'omni-secrets rotate due' shows, which secret has taken its place"
	case domain.CodeVersionRejected:
		const unchanged = "nothing was changed; "
		if _, code, ok := e.problem.check(); ok {
			return unchanged + checkAdvice(code)
		}
		return unchanged + "'omni-secrets rotate preview' runs the same checks as often as you like"
	case domain.CodeVersionUnavailable:
		return "nothing was changed; try again when the backend answers: 'omni-secrets status' shows its failures"
	case domain.CodeNoFollowUp:
		return "'omni-secrets breakglass follow-ups' lists those that are open"
	case domain.CodeAuditUnavailable:
		return "the server's audit journal takes no events: free or mend its disk (runbook: AUDIT_UNAVAILABLE)"
	case domain.CodeStateUnavailable:
		return "the server's database does not answer: look at 'omni-secrets status' before you try again, when it is back"
	default: // the status says it
	}
	switch {
	case e.status == http.StatusUnauthorized:
		return "check that the token has not expired and was made for this server (key, issuer, audience); 'omni-secrets token --help' makes one"
	case e.status == http.StatusForbidden && r.scope == domain.ScopeRead:
		return readerAdvice()
	case e.status == http.StatusForbidden:
		return fmt.Sprintf("the token lacks scope %s: %s", r.scope, scopeAdvice(r.scope))
	case e.status/100 == 3:
		return "redirects are not followed, since the token would go along: " + redirectAdvice(header.Get("Location"))
	case e.status == http.StatusNotFound:
		return fmt.Sprintf("check that %s is the address of Omni Secrets: it does not have this path", c.base)
	case header.Get("Retry-After") != "":
		return "try again in " + oneLine(header.Get("Retry-After")) + " s"
	case e.status == http.StatusBadRequest && r.invalid != "":
		return r.invalid
	case e.status == http.StatusBadRequest:
		return fmt.Sprintf("compare the versions: 'omni-secrets version' and curl -fsS %s", shellWord(c.base.JoinPath("version").String()))
	case e.problem.RequestID != "":
		return "the server's log has the cause under request id " + oneLine(e.problem.RequestID)
	default:
		return fmt.Sprintf("check that %s is the address of Omni Secrets, and its log", c.base)
	}
}

// scopeAdvice says how to get a token with a scope.
func scopeAdvice(scope domain.Scope) string {
	return fmt.Sprintf("have your identity provider put it into one, or where JWT_SECRET is: 'omni-secrets token --subject YOUR-NAME --scope %s'", scope)
}

// readerAdvice says what to do about a read that is not allowed.
func readerAdvice() string {
	return fmt.Sprintf("the token lacks scope %[1]s, or its subject is not among the readers of this secret in the catalog; for the scope, %[2]s",
		domain.ScopeRead, scopeAdvice(domain.ScopeRead))
}

// redirectAdvice names where an answer wanted to send the request, without query or credentials.
func redirectAdvice(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return "check --api-url"
	}
	return fmt.Sprintf("is --api-url %s meant?", shellWord(u.Scheme+"://"+u.Host))
}

// clockAdvice compares the server's clock with this machine's. now is the latter.
func clockAdvice(header http.Header, now time.Time) string {
	server, err := http.ParseTime(header.Get("Date"))
	if err != nil || server.Sub(now).Abs() < 2*time.Second {
		return "give a shorter --ttl"
	}
	return fmt.Sprintf("the server's clock reads %s and this machine's %s: set the wrong one, or choose --ttl for it",
		instant(&server), instant(&now))
}

// connectAdvice says what to do when a request got no answer.
func (c *apiClient) connectAdvice(err error) string {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, otherHost := errors.AsType[x509.HostnameError](err)
	_, wrong := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	plain := *c.base
	plain.Scheme = "http"
	switch {
	case unknown:
		return "if it is the right server, have this machine trust the authority of its certificate: install it, or set SSL_CERT_FILE to its PEM file"
	case otherHost:
		return "give --api-url the name that its certificate is for"
	case wrong: // or over
		return "have the server's certificate renewed, and check this machine's clock"
	case refusedCertificate(err):
		return "this server takes clients with a certificate of its authorities only: pass --client-cert and --client-key"
	case errors.Is(err, http.ErrSchemeMismatch) && isLoopback(c.base.Hostname()):
		return fmt.Sprintf("it serves without TLS there: is --api-url %s meant?", shellWord(plain.String()))
	case noTLS || errors.Is(err, http.ErrSchemeMismatch):
		return "it serves without TLS on this port: check --api-url"
	default:
		return fmt.Sprintf("is the server running? try: curl -fsS %s", shellWord(c.base.JoinPath("readyz").String()))
	}
}

// orUnknownOutcome replaces the next step of an error that leaves open whether the server did what it was asked.
func orUnknownOutcome(err error, next string) error {
	e, ok := errors.AsType[*exitError](err)
	_, answered := errors.AsType[*refusalError](err)
	if ok && !answered && !e.notSent {
		e.next = next
	}
	return err
}

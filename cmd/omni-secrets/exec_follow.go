package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// follow checks the settings and begins to follow secrets. changed may be nil; see client.Config.OnChange.
func (f *clientFlags) follow(
	s *streams, secretTypes []string, changed func(client.Change), failed *failureWarnings,
) (*client.Client, error) {
	api, err := f.client(s)
	if err != nil {
		return nil, err
	}
	certificate, err := f.certificate(s)
	if err != nil {
		return nil, err
	}
	var token client.TokenSource // none where a client certificate stands for it
	switch {
	case f.tokenFile != "":
		token = client.TokenFile(f.tokenFile) // read again whenever it is needed: it may be renewed
	case api.token != "":
		token = client.StaticToken(api.token)
	}
	following, err := client.New(client.Config{
		BaseURLs: []string{api.base.String()}, AllowPlaintext: f.insecureHTTP, Token: token, ClientCertificate: certificate,
		SecretTypes: secretTypes, OnChange: changed, Logger: slog.New(failed),
	})
	if err != nil {
		return nil, failuref("follow the secrets: %w", err)
	}
	return following, nil
}

// readError is why a secret could not be had within the timeout, with the exit code that belongs to it. ctx is the one
// of the command; failed knows what went wrong before it was done.
func (f *clientFlags) readError(ctx context.Context, secretType string, err error, failed *failureWarnings) *exitError {
	doing := "read " + secretType
	if ctx.Err() != nil {
		interrupted := failuref("%s: %w", doing, errInterrupted)
		if last, ok := failed.last.Load().(string); ok {
			interrupted.err = fmt.Errorf("%w; the last attempt: %s", interrupted.err, last)
		}
		return interrupted
	}
	code := errorCode(err)
	e := &exitError{code: exitUnavailable, err: fmt.Errorf("%s: %s (%s)", doing, errorDetail(err), errorMarks(err))}
	switch domain.Code(code) {
	case domain.CodeUnauthenticated:
		e.code = exitNotAllowed
		return e.try("check that the token has not expired and was made for this server (key, issuer, audience); 'omni-secrets token --help' makes one")
	case domain.CodeForbidden:
		e.code = exitNotAllowed
		return e.try("%s", readerAdvice())
	case domain.CodeUnknownSecretType:
		e.code = exitNotFound
		return e.try("'omni-secrets status' lists the secret types of this server")
	case domain.CodeSecretUnavailable, client.CodeWithdrawn, client.CodeOverrideEnded:
		return e.try("'omni-secrets status' says why; in an emergency an operator can inject a value: 'omni-secrets breakglass --help'")
	case client.CodeNoToken:
		e.code = exitUsage
		return e.try("check --token-file")
	case client.CodePending:
		return e.try("is the server running, and does 'omni-secrets status' say what it waits for? --timeout gives it more time")
	default:
		if errors.Is(err, client.ErrRefused) {
			e.code = exitRefused
		}
		return e.try("is the server running, and a version with the Connect API? 'omni-secrets get --secret-type %s' asks it by REST", secretType)
	}
}

// errorCode is why there is no value, in a word that does not change.
func errorCode(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Code
	}
	return client.CodeUnavailable
}

// errorDetail is why there is no value, for people.
func errorDetail(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok && e.Message != "" {
		return e.Message
	}
	return err.Error()
}

// errorMarks are what to quote of an error.
func errorMarks(err error) string {
	marks := errorCode(err)
	if e, ok := errors.AsType[*client.Error](err); ok && e.RequestID != "" {
		marks += ", request id " + e.RequestID
	}
	return marks
}

// failureWarnings is a [slog.Handler] that prints what a client logs of its connection as warnings of a command. The
// state of a secret the command has from the client itself, and knows better what to say of it.
type failureWarnings struct {
	s     *streams
	until time.Time    // when the wait for the first values ends
	shown atomic.Bool  // the first values are there
	lost  atomic.Bool  // it was said that the secrets cannot be followed
	last  atomic.Value // a string: why they could not be followed the last time
}

// newFailureWarnings is one for a command that waits for the first values for as long as f says.
func (f *clientFlags) newFailureWarnings(s *streams) *failureWarnings {
	return &failureWarnings{s: s, until: time.Now().Add(f.timeout)}
}

// show says that the first values are there. Until then a failure to get them is the command's error in the end, and
// the first of those that may pass is told, so that nobody waits without a word.
func (w *failureWarnings) show() { w.shown.Store(true) }

// Enabled lets through what a user should know.
func (w *failureWarnings) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

// Handle prints a line.
func (w *failureWarnings) Handle(_ context.Context, record slog.Record) error {
	var why error
	ofSecret := false
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" {
			why, _ = a.Value.Resolve().Any().(error)
		}
		ofSecret = ofSecret || a.Key == "secretType"
		return true
	})
	switch {
	case ofSecret:
	case why == nil: // of the connection there is no other news than that it is there
		if w.lost.Swap(false) {
			_, _ = fmt.Fprintln(w.s.err, "omni-secrets: the server is back: the secrets are followed again")
		}
	case w.shown.Load():
		w.lost.Store(true)
		w.s.warn("%s: %s", record.Message, oneLine(why.Error()))
	default:
		w.last.Store(oneLine(errorDetail(why)))
		left := time.Until(w.until).Round(time.Second)
		if errors.Is(why, client.ErrUnavailable) && left > 0 && !w.lost.Swap(true) {
			w.s.warn("%s; trying for another %s", oneLine(errorDetail(why)), left)
		}
	}
	return nil
}

// WithAttrs leaves out what belongs to every line.
func (w *failureWarnings) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup does not show groups: the lines are for people.
func (w *failureWarnings) WithGroup(string) slog.Handler { return w }

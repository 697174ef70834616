package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The bare servers, which are this program itself, started anew.
const (
	bareName  = "bare"
	tokenName = "token"
)

// bareConfig is what a bare server is told by its standard input.
type bareConfig struct {
	Header http.Header // of each answer; net/http adds the date
	Body   []byte
	Secret []byte // that tokens are signed with
}

// serveBare is a bare server. It prints its address, and ends when stdin does.
func serveBare(ctx context.Context, name string, stdin io.Reader, stdout io.Writer) error {
	in := json.NewDecoder(stdin)
	var c bareConfig
	if err := in.Decode(&c); err != nil {
		return fmt.Errorf("%s is started by load itself, which tells it on standard input what to answer: %w", name, err)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answer := c.handler()
	if name == tokenName {
		answer = c.checked(answer)
	}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == countersPath {
			writeCounters(w)
			return
		}
		answer(w, r)
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		_ = server.Close()
	}()
	if _, err := fmt.Fprintln(stdout, ln.Addr()); err != nil {
		return errors.Join(err, ln.Close())
	}
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler answers with as little work as net/http allows: even the header's values are shared by all answers.
func (c *bareConfig) handler() http.HandlerFunc {
	type field struct {
		name   string
		values []string
	}
	var fields []field
	for name, values := range c.Header {
		fields = append(fields, field{name, values})
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		header := w.Header()
		for _, f := range fields {
			header[f.name] = f.values
		}
		_, _ = w.Write(c.Body)
	}
}

// checked verifies the token as a service would that uses the library as its documentation shows.
func (c *bareConfig) checked(next http.HandlerFunc) http.HandlerFunc {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	return func(w http.ResponseWriter, r *http.Request) {
		text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		var claims tokenClaims
		_, err := parser.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return c.Secret, nil })
		if err != nil || !slices.Contains(strings.Fields(claims.Scope), readScope) {
			http.Error(w, "the token is not good", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

type tokenClaims struct {
	Scope string `json:"scope"`
	jwt.RegisteredClaims
}

const readScope = "svc.omni.secrets.read"

// signToken makes the token that all requests carry.
func signToken(secret []byte) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, tokenClaims{readScope, jwt.RegisteredClaims{
		Subject: "svc-load", ExpiresAt: jwt.NewNumericDate(time.Now().Add(24 * time.Hour)),
	}}).SignedString(secret)
}

// writeCounters shows what the runtime allocated, named as omni-secrets' /metrics names it.
func writeCounters(w io.Writer) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Fprintf(w, "%s %d\n%s %d\n", allocationsSeries, m.Mallocs, allocatedSeries, m.TotalAlloc)
}

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxTokenBytes is far above what the server takes (16 KiB).
const maxTokenBytes = 64 << 10

// TokenSource returns the bearer token to send, without the word Bearer. It is asked before every call, and again when
// the server did not accept what it gave; so it may answer from a cache, but should then notice when the token is about
// to expire. It must be safe for concurrent use and return when ctx is done. Its errors are logged: they must not hold
// the token.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken always sends the same token.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// TokenFile reads the token from a file whenever one is needed, so that replacing the file is all that a rotation of
// the token takes. White space round the token is ignored.
func TokenFile(path string) TokenSource {
	return func(context.Context) (string, error) {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		defer file.Close()
		content, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+1))
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		return string(content), nil
	}
}

var (
	errNoToken  = errors.New("the token source gave an empty token")
	errBadToken = errors.New("the token source gave something with a space, a line break or another character in it that no token has; give the token alone, without the word Bearer")
)

// bearer asks the source for a token and checks that it can be sent; "" is that of no source. It never repeats what it
// got.
func bearer(ctx context.Context, source TokenSource) (string, error) {
	if source == nil {
		return "", nil
	}
	token, err := source(ctx)
	if err != nil {
		return "", &Error{Code: CodeNoToken, Message: "there is no token to send", is: ErrUnavailable, cause: err}
	}
	token = strings.TrimSpace(token)
	switch {
	case token == "":
		err = errNoToken
	case len(token) > maxTokenBytes, strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		err = errBadToken
	default:
		return token, nil
	}
	return "", &Error{Code: CodeNoToken, Message: "there is no token to send", is: ErrUnavailable, cause: err}
}

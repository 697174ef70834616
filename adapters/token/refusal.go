package token

import (
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// refusal is an error written for the caller. It never holds the token or a part of it.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

var errAlgorithm = refuse("the token's algorithm (alg) is not accepted here")

// refusal says in the caller's terms why the parser refused a token with these claims. The parser's own errors
// may quote it.
func (v *Verifier) refusal(err error, claims jwt.MapClaims) error {
	if own, ok := errors.AsType[refusal](err); ok {
		return own
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse("the token is not a well-formed JWT")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return errAlgorithm
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return refuse("the token's signature does not verify")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return v.missingClaims(claims)
	case errors.Is(err, jwt.ErrInvalidType):
		return refuse("a claim of the token has the wrong type: exp and nbf must be numbers, iss a string, aud a string or a list of strings")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse("the token has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return refuse("the token is not valid yet (nbf)")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return refuse("the token's issuer (iss) is not %q", v.issuer)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return refuse("the token's audience (aud) is not %q", v.audience)
	default:
		return refuse("the token is not valid")
	}
}

func (v *Verifier) missingClaims(claims jwt.MapClaims) error {
	var missing []string
	for _, name := range v.required {
		if _, ok := claims[name]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 { // there, but empty
		return refuse("a claim of the token is empty; it needs %s", strings.Join(v.required, ", "))
	}
	return refuse("the token lacks claims that are required: %s", strings.Join(missing, ", "))
}

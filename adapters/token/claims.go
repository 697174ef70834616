package token

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// maxSubject bounds sub in characters. OpenID Connect Core 1.0 section 2 allows 255.
const maxSubject = 255

// principal reads the claims of a token whose signature and times were checked.
func principal(claims jwt.MapClaims) (domain.Principal, error) {
	subject, err := subject(claims)
	if err != nil {
		return domain.Principal{}, err
	}
	var scopes domain.Scope
	names, err := words(claims, "scope")
	if err != nil {
		return domain.Principal{}, err
	}
	for _, name := range names {
		scopes |= domain.ParseScope(name)
	}
	roles, err := words(claims, "roles")
	if err != nil {
		return domain.Principal{}, err
	}
	for _, role := range roles {
		scopes |= domain.RoleScope(role)
	}
	return domain.Principal{Subject: subject, Scopes: scopes}, nil
}

// subject refuses what could not be stored or shown in the audit trail: SQL text holds no NUL, and a control
// character would let one subject look like another.
func subject(claims jwt.MapClaims) (string, error) {
	raw, present := claims["sub"]
	sub, ok := raw.(string)
	switch {
	case !present:
		return "", refuse("the token lacks claims that are required: sub")
	case !ok || strings.TrimSpace(sub) == "":
		return "", refuse("the token's subject (sub) must be a string that is not empty")
	case utf8.RuneCountInString(sub) > maxSubject:
		return "", refuse("the token's subject (sub) is longer than %d characters", maxSubject)
	case strings.ContainsFunc(sub, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", refuse("the token's subject (sub) has characters that cannot be printed")
	}
	return sub, nil
}

// words reads a claim that is a string of words with spaces between them (as scope in RFC 8693 section 4.2) or a
// list of words. A claim that is not there has none.
func words(claims jwt.MapClaims, name string) ([]string, error) {
	raw, present := claims[name]
	if !present {
		return nil, nil
	}
	switch v := raw.(type) {
	case string:
		return strings.Fields(v), nil
	case []any:
		list := make([]string, len(v))
		for i, item := range v {
			word, ok := item.(string)
			if !ok {
				return nil, refuse("the token's claim %s must be a string or a list of strings", name)
			}
			list[i] = word
		}
		return list, nil
	default:
		return nil, refuse("the token's claim %s must be a string or a list of strings", name)
	}
}

package token_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ ports.TokenVerifier = (*token.Verifier)(nil)

var secret = []byte("0123456789abcdef0123456789abcdef")

// good are the claims of a token that passes; tests change them.
func good() jwt.MapClaims {
	return jwt.MapClaims{"sub": "pricing-engine", "exp": time.Now().Add(time.Hour).Unix(), "iss": "issuer", "aud": "omni"}
}

// claims is good with some claims set, or left out when their value is nil.
func claims(changes jwt.MapClaims) jwt.MapClaims {
	c := good()
	for name, value := range changes {
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
	}
	return c
}

// null is the JSON value, since nil leaves a claim out.
type null struct{}

func (null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

func signed(t testing.TB, method jwt.SigningMethod, key any, c jwt.Claims, header map[string]any) string {
	t.Helper()
	unsigned := jwt.NewWithClaims(method, c)
	maps.Copy(unsigned.Header, header)
	text, err := unsigned.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func newVerifier(t testing.TB, c token.Config) *token.Verifier {
	t.Helper()
	v, err := token.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wantRefusal(t *testing.T, v *token.Verifier, text, want string) {
	t.Helper()
	p, err := v.Verify(t.Context(), text)
	if err == nil {
		t.Fatalf("verified as %+v, want an error with %q", p, want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error is %q, want one with %q", err, want)
	}
	for part := range strings.SplitSeq(text, ".") {
		if len(part) > 3 && strings.Contains(err.Error(), part) {
			t.Errorf("the error holds a part of the token: %q", err)
		}
	}
}

func TestPrincipalOfAToken(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret, Issuer: "issuer", Audience: "omni"})
	for name, c := range map[string]struct {
		changes jwt.MapClaims
		want    domain.Scope
	}{
		"no scope":                    {nil, 0},
		"scopes in a string":          {jwt.MapClaims{"scope": "svc.omni.secrets.read  svc.omni.secrets.cache"}, domain.ScopeRead | domain.ScopeCacheRefresh},
		"scopes in a list":            {jwt.MapClaims{"scope": []string{"svc.omni.secrets.read", "ops.omni.secrets.audit"}}, domain.ScopeRead | domain.ScopeAudit},
		"unknown scopes":              {jwt.MapClaims{"scope": "openid svc.omni.secrets.read email"}, domain.ScopeRead},
		"an empty scope":              {jwt.MapClaims{"scope": ""}, 0},
		"an umbrella scope":           {jwt.MapClaims{"scope": "omni:manage"}, domain.ScopeOps},
		"a role":                      {jwt.MapClaims{"roles": "omni-ops"}, domain.ScopeOps},
		"roles in a list":             {jwt.MapClaims{"roles": []string{"dev", "ops"}}, domain.ScopeOps},
		"a scope's name as a role":    {jwt.MapClaims{"roles": "svc.omni.secrets.read"}, 0},
		"a role's name as a scope":    {jwt.MapClaims{"scope": "ops"}, 0},
		"a claim Scope":               {jwt.MapClaims{"Scope": "svc.omni.secrets.read", "ROLES": "ops"}, 0},
		"words joined in a list item": {jwt.MapClaims{"scope": []string{"openid svc.omni.secrets.read"}}, 0},
		"several audiences":           {jwt.MapClaims{"aud": []string{"other", "omni"}}, 0},
		"nbf in the past":             {jwt.MapClaims{"nbf": time.Now().Add(-time.Minute).Unix()}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodHS256, secret, claims(c.changes), nil))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(domain.Principal{Subject: "pricing-engine", Scopes: c.want}, got); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClaimsThatAreRefused(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret, Issuer: "issuer", Audience: "omni"})
	for name, c := range map[string]struct {
		changes jwt.MapClaims
		want    string
	}{
		"no exp":                    {jwt.MapClaims{"exp": nil}, "lacks claims that are required: exp"},
		"no exp and no aud":         {jwt.MapClaims{"exp": nil, "aud": nil}, "lacks claims that are required: exp, aud"},
		"exp zero":                  {jwt.MapClaims{"exp": 0}, "is empty"},
		"exp in the past":           {jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix()}, "has expired"},
		"exp now, without leeway":   {jwt.MapClaims{"exp": time.Now().Unix()}, "has expired"},
		"exp as text":               {jwt.MapClaims{"exp": "tomorrow"}, "wrong type"},
		"exp null":                  {jwt.MapClaims{"exp": null{}}, "wrong type"},
		"nbf in the future":         {jwt.MapClaims{"nbf": time.Now().Add(5 * time.Second).Unix()}, "not valid yet"},
		"nbf as text":               {jwt.MapClaims{"nbf": "now"}, "wrong type"},
		"no sub":                    {jwt.MapClaims{"sub": nil}, "required: sub"},
		"an empty sub":              {jwt.MapClaims{"sub": " "}, "subject (sub) must be a string that is not empty"},
		"sub a number":              {jwt.MapClaims{"sub": 7}, "subject (sub) must be a string that is not empty"},
		"sub with a NUL":            {jwt.MapClaims{"sub": "a\x00b"}, "cannot be printed"},
		"sub with a line break":     {jwt.MapClaims{"sub": "a\nb"}, "cannot be printed"},
		"a sub without end":         {jwt.MapClaims{"sub": strings.Repeat("x", 256)}, "longer than 255"},
		"another issuer":            {jwt.MapClaims{"iss": "mallory"}, `issuer (iss) is not "issuer"`},
		"no issuer":                 {jwt.MapClaims{"iss": nil}, "required: iss"},
		"issuer a list":             {jwt.MapClaims{"iss": []string{"issuer"}}, "wrong type"},
		"another audience":          {jwt.MapClaims{"aud": "other"}, `audience (aud) is not "omni"`},
		"no audience":               {jwt.MapClaims{"aud": nil}, "required: aud"},
		"an audience of numbers":    {jwt.MapClaims{"aud": []int{1}}, "wrong type"},
		"scope a number":            {jwt.MapClaims{"scope": 7}, "scope must be a string or a list of strings"},
		"scope null":                {jwt.MapClaims{"scope": null{}}, "scope must be a string or a list of strings"},
		"a scope that is no string": {jwt.MapClaims{"scope": []any{"svc.omni.secrets.read", 7}}, "scope must be a string or a list of strings"},
		"roles an object":           {jwt.MapClaims{"roles": map[string]any{"ops": true}}, "roles must be a string or a list of strings"},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, v, signed(t, jwt.SigningMethodHS256, secret, claims(c.changes), nil), c.want)
		})
	}
}

func TestIssuerAndAudienceAreFreeUnlessSet(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret})
	for _, changes := range []jwt.MapClaims{{"iss": nil, "aud": nil}, {"iss": "anyone", "aud": "anything"}} {
		if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodHS256, secret, claims(changes), nil)); err != nil {
			t.Error(err)
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret})
	whole := signed(t, jwt.SigningMethodHS256, secret, good(), nil)
	parts := strings.Split(whole, ".")
	other := signed(t, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"scope": "omni:ops"}), nil)
	segment := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

	for name, c := range map[string]struct{ text, want string }{
		"empty":                      {"", "not a well-formed JWT"},
		"words":                      {"let me in", "not a well-formed JWT"},
		"two parts":                  {parts[0] + "." + parts[1], "not a well-formed JWT"},
		"four parts":                 {whole + ".x", "not a well-formed JWT"},
		"claims that are no object":  {parts[0] + "." + segment(`[]`) + "." + parts[2], "not a well-formed JWT"},
		"a header that is no object": {segment(`7`) + "." + parts[1] + "." + parts[2], "not a well-formed JWT"},
		"padded base64":              {parts[0] + "=." + parts[1] + "." + parts[2], "not a well-formed JWT"},
		"too long":                   {whole + strings.Repeat("x", token.MaxBytes), "longer than 16384 bytes"},
		"the claims of another":      {parts[0] + "." + strings.Split(other, ".")[1] + "." + parts[2], "signature does not verify"},
		"no signature":               {parts[0] + "." + parts[1] + ".", "signature does not verify"},
		"a stray bit in the base64":  {whole[:len(whole)-1] + nextLetter(whole[len(whole)-1]), "not a well-formed JWT"},
		"another secret":             {signed(t, jwt.SigningMethodHS256, []byte(strings.Repeat("z", 32)), good(), nil), "signature does not verify"},
		"alg none":                   {signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good(), nil), "algorithm (alg) is not accepted"},
		"alg None":                   {segment(`{"alg":"None"}`) + "." + parts[1] + ".", "algorithm (alg) is not accepted"},
		"no alg":                     {segment(`{}`) + "." + parts[1] + "." + parts[2], "algorithm (alg) is not accepted"},
		"alg HS384":                  {signed(t, jwt.SigningMethodHS384, secret, good(), nil), "algorithm (alg) is not accepted"},
		"alg HS512":                  {signed(t, jwt.SigningMethodHS512, secret, good(), nil), "algorithm (alg) is not accepted"},
		"an asymmetric alg":          {signed(t, jwt.SigningMethodEdDSA, ed25519Key(), good(), nil), "algorithm (alg) is not accepted"},
		"critical extensions":        {signed(t, jwt.SigningMethodHS256, secret, good(), map[string]any{"crit": []string{"b64"}, "b64": false}), "critical extensions"},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, v, c.text, c.want) })
	}
}

// nextLetter differs from a base64 letter in its lowest bit, which in a signature of 32 bytes stands for nothing.
func nextLetter(letter byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, letter)^1:][:1]
}

func TestConfigurationErrors(t *testing.T) {
	for name, c := range map[string]struct {
		config token.Config
		want   []string
	}{
		"nothing set":          {token.Config{}, []string{"neither a shared secret nor a JWKS URL"}},
		"a short secret":       {token.Config{HMACSecret: secret[:31]}, []string{"has 31 bytes; HS256 needs 32"}},
		"http to another host": {token.Config{JWKSURL: "http://idp.example/keys"}, []string{"must begin with https://"}},
		"http to a look-alike": {token.Config{JWKSURL: "http://localhost.example/keys"}, []string{"must begin with https://"}},
		"another scheme":       {token.Config{JWKSURL: "file://localhost/keys"}, []string{"must begin with https://"}},
		"a relative URL":       {token.Config{JWKSURL: "/keys"}, []string{"not an absolute URL"}},
		"everything wrong":     {token.Config{HMACSecret: secret[:1], JWKSURL: "keys"}, []string{"has 1 bytes", "not an absolute URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := token.New(t.Context(), c.config)
			if err == nil {
				t.Fatal("want an error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want one with %q", err, want)
				}
			}
		})
	}
}

func TestVerifierDoesNotPrintItsSecret(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		text := fmt.Sprintf(verb, v)
		if strings.Contains(text, string(secret)) || strings.Contains(text, fmt.Sprintf("%x", secret)) || strings.Contains(text, fmt.Sprint(secret)) {
			t.Errorf("%s prints the secret", verb)
		}
	}
}

func TestSignedTokensVerify(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret, Issuer: "omni-secrets", Audience: "omni"})
	text, err := token.Sign(secret, token.Claims{
		Subject: "on-call", Scopes: []string{"svc.omni.secrets.read", "svc.omni.secrets.cache"}, Roles: []string{"ops"},
		Issuer: "omni-secrets", Audience: "omni", IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	want := domain.Principal{Subject: "on-call", Scopes: domain.ScopeRead | domain.ScopeCacheRefresh | domain.ScopeOps}
	if got != want {
		t.Errorf("principal is %+v, want %+v", got, want)
	}
}

func TestSignRefuses(t *testing.T) {
	whole := token.Claims{Subject: "s", ExpiresAt: time.Now()}
	for name, c := range map[string]struct {
		secret []byte
		claims token.Claims
	}{
		"a short secret": {secret[:31], whole},
		"no subject":     {secret, token.Claims{ExpiresAt: whole.ExpiresAt}},
		"no expiry":      {secret, token.Claims{Subject: whole.Subject}},
	} {
		t.Run(name, func(t *testing.T) {
			if text, err := token.Sign(c.secret, c.claims); err == nil {
				t.Errorf("signed %q", text)
			}
		})
	}
}

// A service sends the same token again and again; what was checked once is not checked again. Time is
// simulated.
func TestKnownTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, token.Config{HMACSecret: secret})
		text := signed(t, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"exp": time.Now().Add(time.Minute).Unix()}), nil)
		for range 2 {
			if _, err := v.Verify(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute) //nolint:forbidigo // simulated: in a bubble
		wantRefusal(t, v, text, "has expired")
	})
}

func TestKnownTokensAreBounded(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret})
	for i := range 3 * 4096 {
		text, err := token.Sign(secret, token.Claims{Subject: strconv.Itoa(i), ExpiresAt: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			p, err := v.Verify(t.Context(), text)
			if err != nil || p.Subject != strconv.Itoa(i) {
				t.Fatalf("token %d is %+v, %v", i, p, err)
			}
		}
	}
	if n := v.Remembered(); n > 2*4096 {
		t.Errorf("%d tokens are remembered", n)
	}
}

// Whatever comes in is refused without a part of it, or was signed with the secret.
func FuzzVerify(f *testing.F) {
	v := newVerifier(f, token.Config{HMACSecret: secret, Issuer: "issuer", Audience: "omni"})
	whole := signed(f, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"exp": int64(1) << 40, "scope": "omni:ops"}), nil)
	for _, seed := range []string{whole, "", "..", "e30.e30.", whole + "x", signed(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good(), nil)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := v.Verify(t.Context(), text)
		switch {
		case err != nil && p != (domain.Principal{}):
			t.Errorf("refused, but with the principal %+v", p)
		case err == nil && text != whole:
			t.Errorf("verified %q", text)
		}
	})
}

func BenchmarkVerifyHS256(b *testing.B) {
	v := newVerifier(b, token.Config{HMACSecret: secret, Issuer: "issuer", Audience: "omni"})
	text := signed(b, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"scope": "svc.omni.secrets.read"}), nil)
	verify := func(b *testing.B) {
		if _, err := v.Verify(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("first time", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.Forget()
			verify(b)
		}
	})
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			verify(b)
		}
	})
}

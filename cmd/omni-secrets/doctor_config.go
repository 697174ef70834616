package main

import (
	"context"
	"strings"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
)

const configurationCheck = "configuration"

// checkConfiguration tells everything for which serve would refuse c. wrong is what readConfig said.
func checkConfiguration(ctx context.Context, c config, wrong error) []finding {
	const check = configurationCheck
	var findings []finding
	failed := func(err error) {
		for line := range strings.SplitSeq(err.Error(), "\n") { // joined errors are one a line
			findings = append(findings, found(check, verdictFailed, "%s", line))
		}
	}
	if wrong != nil {
		failed(wrong)
	} else if err := checkTokenConfig(ctx, c); err != nil {
		failed(err)
	}
	for _, e := range c.catalog.ForeignProjects(c.Environment, c.ProductionProjects) {
		findings = append(findings, found(check, verdictFailed, "environment violation: OMNI_ENVIRONMENT is %q, and %s is in the production project %s",
			c.Environment, e.Type, e.Project()).try("point the catalog elsewhere, or set OMNI_ENVIRONMENT=production where that is true"))
	}
	if len(findings) == 0 {
		return []finding{found(check, verdictOK, "catalog of %d, environment %s, replica %s", len(c.catalog), c.Environment, c.ReplicaID)}
	}
	return findings
}

// checkTokenConfig asks the verifier what it thinks of its settings. It does not fetch a key set.
func checkTokenConfig(ctx context.Context, c config) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err := token.New(ctx, token.Config{
		HMACSecret: c.JWTSecret.Reveal(), JWKSURL: c.JWKSURL, Issuer: c.JWTIssuer, Audience: c.JWTAudience,
	})
	return err
}

// checkKeyPair compares the public key that operators encrypt with to the server's private key.
func checkKeyPair(c config, public string) finding {
	const check = "break-glass"
	if c.BreakGlassKey.IsZero() {
		return found(check, verdictWarning, "%s is not set: no override can be applied", privateKeyEnv).
			try("'omni-secrets keygen' makes a pair; give the server the private key, and the public key to those on call")
	}
	private, err := envelope.ParsePrivateKey(string(c.BreakGlassKey.Reveal()))
	if err != nil {
		return found(check, verdictFailed, "%s: %v", privateKeyEnv, err).
			try("take it from where the server's keys are kept; 'omni-secrets keygen' makes a new pair")
	}
	belongs := private.Public().String()
	if public == "" {
		return found(check, verdictOK, "the public key of the private key here is %s; %s is not set here, compare it where it is", belongs, publicKeyEnv)
	}
	given, err := envelope.ParsePublicKey(public)
	if err != nil {
		return found(check, verdictFailed, "%s: %v", publicKeyEnv, err).try("set it to %s", belongs)
	}
	if given.String() != belongs {
		return found(check, verdictFailed, "%s does not belong to %s: overrides would be refused", publicKeyEnv, privateKeyEnv).
			try("set %s to %s, here and for those on call; if that is not the key that they have, the server has the wrong private key", publicKeyEnv, belongs)
	}
	return found(check, verdictOK, "the two keys are a pair")
}

package main

import (
	"context"
	"strings"

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
		HMACSecret: c.JWTSecret.Reveal(), Previous: c.Keys.jwtPrevious, JWKSURL: c.JWKSURL, Issuer: c.JWTIssuer, Audience: c.JWTAudience,
	})
	return err
}

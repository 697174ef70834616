package main

import (
	"context"
	"errors"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const survivalCheck = "survival"

// checkSurvival tells how long each secret would still be served if its backend went away now.
func checkSurvival(ctx context.Context, s *streams, f *clientFlags) []finding {
	address := s.setting("api-url", f.apiURL, "OMNI_API_URL").value
	if address == "" {
		return []finding{found(survivalCheck, verdictSkipped, "give --api-url, and --token with the scope %s, to have it from a running server", domain.ScopeStatus)}
	}
	if f.tokenFile == "" && s.setting("token", f.token, "OMNI_TOKEN").value == "" {
		return []finding{found(survivalCheck, verdictSkipped, "give --token, with the scope %s, to have it from the server", domain.ScopeStatus)}
	}
	client, err := f.client(s)
	var page statusPage
	if err == nil {
		page, _, err = client.status(ctx, "ask the server what it has in memory")
	}
	if err != nil {
		failed := found(survivalCheck, verdictFailed, "%v", err)
		if e, ok := errors.AsType[*exitError](err); ok && e.next != "" {
			failed = failed.try("%s", e.next)
		}
		return []finding{failed}
	}
	findings := make([]finding, 0, len(page.Data))
	for _, row := range page.Data {
		findings = append(findings, row.survival(client.base.Host).of(domain.SecretType(oneLine(row.SecretType))))
	}
	return findings
}

func (r statusRow) survival(host string) finding {
	if r.SurvivalSeconds == nil {
		return found(survivalCheck, verdictSkipped, "%s does not tell: it is an older version", host)
	}
	left := time.Duration(*r.SurvivalSeconds * float64(time.Second)).Round(time.Second)
	switch {
	case left <= 0:
		return found(survivalCheck, verdictFailed, "%s has nothing to serve: fetches fail: %s", host, r.failures()).
			try("mend the backend, see above; in an emergency: 'omni-secrets breakglass --help'")
	case r.CacheSource == domain.SourceBreakGlass:
		return found(survivalCheck, verdictWarning, "%s, as %s has it in memory; an override is in place", left, host).
			try("when the backend is back: omni-secrets refresh --secret-type %s", shellWord(r.SecretType))
	case r.Stale || r.ConsecutiveFailures > 0:
		return found(survivalCheck, verdictWarning, "%s, as %s has it in memory; fetches fail: %s", left, host, r.failures()).
			try("mend the backend within that time, see above; or 'omni-secrets breakglass --help'")
	}
	return found(survivalCheck, verdictOK, "%s, as %s has it in memory", left, host)
}

package main

import (
	"net/http"
	"testing"
)

const refreshRoute = "POST /internal/apex-omni/secrets/cache/refresh"

func TestRefresh(t *testing.T) {
	const (
		all  = `{"requestId":"req-42","refreshedSecretTypes":["trading_api_key","zk_signing_seed"],"failures":[]}`
		some = `{"requestId":"req-42","refreshedSecretTypes":["trading_api_key"],"failures":[{"secretType":"zk_signing_seed","reason":"not_found"}]}`
		none = `{"title":"Service Unavailable","status":503,"detail":"nothing could be refreshed","code":"REFRESH_FAILED","requestId":"req-42",
			"failures":[{"secretType":"trading_api_key","reason":"unavailable"}]}`
	)
	problem := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(none))
	}
	gone := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":503,"detail":"nothing was refreshed (trading_api_key: not_found); trading_api_key HAS NO VALUE NOW, reads get 503",
			"code":"REFRESH_FAILED","failures":[{"secretType":"trading_api_key","reason":"not_found"}]}`))
	}
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		args    []string
		sent    request
		code    int
		want    []string
	}{
		{"everything", answer(202, all), nil, request{}, exitOK, []string{"trading_api_key  refreshed\n", "zk_signing_seed  refreshed\n"}},
		{
			"one", answer(202, all),
			[]string{"--secret-type", "trading_api_key"},
			request{ContentType: "application/json", Body: `{"secretType":"trading_api_key"}`},
			exitOK,
			[]string{"refreshed"},
		},
		{"as JSON", answer(202, all), []string{"-o", "json"}, request{}, exitOK, []string{all + "\n"}},
		{
			"some failed", answer(202, some), nil,
			request{},
			exitFailure,
			[]string{"trading_api_key  refreshed\n", "zk_signing_seed  failed: not_found\n", "1 of 2 secrets could not be refreshed; without a value now, unless an override is in place: zk_signing_seed", "add or enable the version, then refresh"},
		},
		{"some failed, as JSON", answer(202, some), []string{"-o", "json"}, request{}, exitFailure, []string{some + "\n", "1 of 2"}},
		{
			"all failed", problem, nil,
			request{},
			exitUnavailable,
			[]string{"trading_api_key  failed: unavailable\n", "nothing could be refreshed (REFRESH_FAILED, request id req-42)", "shows what is still served; try again"},
		},
		{
			"the only one is gone", gone,
			[]string{"--secret-type", "trading_api_key"},
			request{ContentType: "application/json", Body: `{"secretType":"trading_api_key"}`},
			exitUnavailable,
			[]string{"trading_api_key HAS NO VALUE NOW", "next: add or enable the version, then refresh; in an emergency: 'omni-secrets breakglass --help'"},
		},
		{"all failed, as JSON", problem, []string{"-o", "json"}, request{}, exitUnavailable, []string{`"reason":"unavailable"`, `"refreshedSecretTypes":[]`}},
		{"not allowed", refusing(403, "FORBIDDEN", "no"), nil, request{}, exitNotAllowed, []string{"lacks scope svc.omni.secrets.cache"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{refreshRoute: tc.handler})
			api.process().run(t, append([]string{"refresh"}, tc.args...)...).want(t, tc.code, tc.want...)
			tc.sent.Method, tc.sent.Path = "POST", refreshPath
			if sent := api.requests(); len(sent) != 1 || sent[0] != tc.sent {
				t.Errorf("sent %+v, want %+v", sent, tc.sent)
			}
		})
	}
}

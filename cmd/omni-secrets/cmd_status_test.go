package main

import (
	"net/http"
	"testing"
)

const statusDocument = `{"data":[
{"secretType":"trading_api_key","status":"active","owner":"Security Engineering","gcpSecretId":"projects/p/secrets/apex-omni-trading-api-key","gcpVersionAlias":"latest","cacheSource":"gsm","cacheVersion":"7","cacheAgeSeconds":83.25,"stale":false,"rotationDueAt":"2027-01-31T08:00:00.000Z","rotationState":"current","lastRotatedAt":null,"lastValidatedAt":"2026-03-01T11:58:37.000Z","breakGlassExpiresAt":null,"consecutiveFailures":0,"lastFailureReason":null},
{"secretType":"trading_client_secret","status":"rotating","cacheSource":"break_glass","cacheVersion":null,"cacheAgeSeconds":12,"stale":false,"rotationDueAt":"2026-03-20T00:00:00.000Z","rotationState":"due_soon","breakGlassExpiresAt":"2026-03-01T12:24:48.500Z","consecutiveFailures":4,"lastFailureReason":"unavailable"},
{"secretType":"webhook_shared_secret","status":"active","cacheSource":"local_file","cacheVersion":"sha256-1f","cacheAgeSeconds":7265,"stale":true,"rotationDueAt":"2026-02-01T00:00:00.000Z","rotationState":"overdue","breakGlassExpiresAt":null,"consecutiveFailures":1,"lastFailureReason":"permission_denied"},
{"secretType":"zk_signing_seed","status":"active","cacheSource":"empty","cacheVersion":null,"cacheAgeSeconds":null,"stale":false,"rotationDueAt":null,"rotationState":"current","breakGlassExpiresAt":null,"consecutiveFailures":9,"lastFailureReason":"not_found"}
],"updatedAt":"2026-03-01T12:00:00.000Z"}`

func TestStatusTable(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(200, statusDocument)})
	o := api.process().run(t, "status")
	o.want(t, exitOK)
	golden(t, "status.golden", o.out)
	if got := api.requests()[0]; got != (request{Method: "GET", Path: statusPath}) {
		t.Errorf("request: %+v", got)
	}
}

func TestStatusAsJSONIsTheServersDocument(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(200, statusDocument)})
	o := api.process().run(t, "status", "-o", "json")
	o.want(t, exitOK)
	if o.out != statusDocument+"\n" {
		t.Errorf("standard output:\n%s", o.out)
	}
}

package main

import (
	"net/http"
	"strings"
	"testing"
)

const (
	previewRoute = "POST /ops/apex-omni/secrets/rotation-preview"
	beginRoute   = "POST /ops/apex-omni/secrets/rotations"
	promoteRoute = "POST /ops/apex-omni/secrets/rotations/trading_api_key/promote"
	abortRoute   = "POST /ops/apex-omni/secrets/rotations/trading_api_key/abort"
	recordRoute  = "POST /ops/apex-omni/secrets/rotations/trading_api_key/record"
)

// Rows of trading_api_key.
const (
	rotatingRow = `{"secretType":"trading_api_key","status":"rotating","cacheSource":"gsm","cacheVersion":"7","rotatingToVersion":"8","rotatingSince":"2026-03-01T12:00:00.000Z","rotatingBy":"ana","pinnedVersion":"7"}`
	promotedRow = `{"secretType":"trading_api_key","status":"active","cacheSource":"gsm","cacheVersion":"8","pinnedVersion":"8","rotationDueAt":"2027-03-01T12:00:00.000Z","rotationState":"current","lastRotatedAt":"2026-03-01T12:00:00.000Z"}`
	hiddenRow   = `{"secretType":"trading_api_key","status":"active","cacheSource":"break_glass","cacheVersion":"bg-X","pinnedVersion":"8","breakGlassExpiresAt":"2026-03-01T12:20:00.000Z"}`
	emptyRow    = `{"secretType":"trading_api_key","status":"rotating","cacheSource":"empty","rotatingToVersion":"8"}`
	abortedRow  = `{"secretType":"trading_api_key","status":"active","cacheSource":"gsm","cacheVersion":"7","pinnedVersion":"7"}`
)

var ofAPIKey = []string{"--secretType", "trading_api_key"}

func rotate(step string, more ...string) []string {
	return append(append([]string{"rotate", step}, ofAPIKey...), more...)
}

func TestRotatePreview(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		code         int
		want         []string
	}{
		{"passed", `{"validated":true,"latencyMs":12.34,"version":"8"}`, exitOK, []string{
			"Version 8 of trading_api_key passed its checks, in 12ms. Nothing was changed.",
			"Next: omni-secrets rotate begin --secret-type trading_api_key --version 8\n",
		}},
		{"wrong format", `{"validated":false,"latencyMs":1,"version":"8","errorCode":"FORMAT_MISMATCH","message":"the value has 3 bytes"}`, exitNotValid, []string{
			"version 8 of trading_api_key did not pass its checks: the value has 3 bytes (FORMAT_MISMATCH)", "add a version with another value",
		}},
		{"unreadable", `{"validated":false,"latencyMs":1,"version":"8","errorCode":"VERSION_UNREADABLE","message":"it cannot be read"}`, exitNotValid, []string{
			"exists and is enabled",
		}},
		{"forbidden webhook", `{"validated":false,"latencyMs":1,"version":"8","errorCode":"WEBHOOK_FORBIDDEN","message":"not allowed"}`, exitNotValid, []string{
			"OMNI_VALIDATION_ALLOWED_HOSTS",
		}},
		{"receiver without the value", `{"validated":false,"latencyMs":1,"version":"8","errorCode":"WEBHOOK_REJECTED","message":"no"}`, exitNotValid, []string{
			"does not have this value yet",
		}},
		{"probe that gets no answer", `{"validated":false,"latencyMs":1,"version":"8","errorCode":"PROBE_UNREACHABLE","message":"no"}`, exitNotValid, []string{
			"nothing is known about the value",
		}},
		{"a code of a later server", `{"validated":false,"latencyMs":1,"version":"8","errorCode":"NEW\u001b[2J","message":"no"}`, exitNotValid, []string{"(NEW [2J)"}},
		{"something else", `{"hello":"` + plaintext + `"}`, exitFailure, []string{"the answer is not one of Omni Secrets"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{previewRoute: answer(200, tc.answer)})
			o := api.process().run(t, rotate("preview", "--version", "8")...)
			o.want(t, tc.code, tc.want...)
			if got := api.requests()[0].Body; got != `{"secretType":"trading_api_key","gcpSecretVersion":"8"}` {
				t.Errorf("sent %s", got)
			}
			if tc.code == exitNotValid && o.out != "" {
				t.Errorf("standard output: %s", o.out)
			}
		})
	}
}

func TestRotatePreviewAsJSON(t *testing.T) {
	const document = `{"validated":false,"latencyMs":1,"version":"8","errorCode":"FORMAT_MISMATCH","message":"no"}`
	api := newFakeAPI(t, map[string]http.HandlerFunc{previewRoute: answer(200, document)})
	o := api.process().run(t, rotate("preview", "--version", "8", "--webhook-url", "https://hooks.example.com/", "-o", "json")...)
	o.want(t, exitNotValid, "did not pass its checks")
	if o.out != document+"\n" {
		t.Errorf("standard output:\n%s", o.out)
	}
	if got := api.requests()[0].Body; !strings.Contains(got, `"dryRunWebhookUrl":"https://hooks.example.com/"`) {
		t.Errorf("sent %s", got)
	}
}

func TestRotateSteps(t *testing.T) {
	for _, tc := range []struct {
		name, route, answer string
		args                []string
		body                string
		want                []string
	}{
		{"begin", beginRoute, rotatingRow, rotate("begin", "--version", "8"), `{"gcpSecretVersion":"8","secretType":"trading_api_key"}`, []string{
			"The rotation of trading_api_key to version 8 has begun. Version 7 is served.",
			"omni-secrets rotate promote --secret-type trading_api_key\n", "omni-secrets rotate abort --secret-type trading_api_key\n",
		}},
		{"begin from nothing", beginRoute, emptyRow, rotate("begin", "--version", "8"), `{"gcpSecretVersion":"8","secretType":"trading_api_key"}`, []string{
			"There is nothing to serve until then.",
		}},
		{"promote", promoteRoute, promotedRow, rotate("promote"), "", []string{
			"Version 8 of trading_api_key has been promoted and is served; by every replica within a second.\nThe next rotation is due on 2027-03-01.\n" +
				"Follow-ups of trading_api_key that are open now: 0.\n",
		}},
		{"promote under an override", promoteRoute, hiddenRow, rotate("promote"), "", []string{"an override is served until 2026-03-01T12:20:00Z."}},
		{"abort", abortRoute, abortedRow, rotate("abort"), "", []string{"The rotation of trading_api_key has been given up. Version 7 is served."}},
		{"done", recordRoute, promotedRow, rotate("done", "--at", "2026-03-01T13:00:00+01:00"), `{"rotatedAt":"2026-03-01T12:00:00Z"}`, []string{
			"The rotation of trading_api_key at 2026-03-01T12:00:00Z is recorded.\nThe next rotation is due on 2027-03-01.\nFollow-ups of trading_api_key that are open now: 0.\n",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{tc.route: answer(200, tc.answer)})
			api.process().run(t, tc.args...).want(t, exitOK, tc.want...)
			if got := api.requests()[0].Body; got != tc.body {
				t.Errorf("sent %s, want %s", got, tc.body)
			}
			o := api.process().run(t, append(tc.args, "-o", "json")...)
			o.want(t, exitOK)
			if o.out != tc.answer+"\n" {
				t.Errorf("standard output:\n%s", o.out)
			}
		})
	}
}

func TestNextCommandsGoToTheSameServer(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{beginRoute: answer(201, rotatingRow)})
	process{env: map[string]string{"OMNI_TOKEN": testToken}}.run(t, rotate("begin", "--version", "8", "--api-url", api.url)...).
		want(t, exitOK, "promote --secret-type trading_api_key --api-url "+api.url+"\n")
}

func TestRotateDoneJustNow(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{recordRoute: answer(200, promotedRow)})
	api.process().run(t, rotate("done")...).want(t, exitOK)
	if got := api.requests()[0].Body; got != `{}` { // this machine's clock may be ahead of the server's
		t.Errorf("sent %s", got)
	}
}

func TestRefusedRotations(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		code   string
		exit   int
		next   string
	}{
		{"in progress", 409, "ROTATION_IN_PROGRESS", exitRefused, "'omni-secrets rotate promote' and 'rotate abort' end it"},
		{"none", 409, "NO_ROTATION", exitRefused, "'omni-secrets rotate begin' begins a rotation"},
		{"deprecated", 409, "SECRET_DEPRECATED", exitRefused, "ask the secret's owner"},
		{"rejected, by an older server", 409, "VERSION_REJECTED", exitRefused, "'omni-secrets rotate preview' runs the same checks"},
		{"backend away", 503, "VERSION_UNAVAILABLE", exitUnavailable, "nothing was changed; try again"},
		{"invalid", 400, "INVALID_REQUEST", exitRefused, "correct --version"},
		{"not allowed", 403, "FORBIDDEN", exitNotAllowed, "the token lacks scope ops.omni.secrets.rotate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{beginRoute: refusing(tc.status, tc.code, "no")})
			api.process().run(t, rotate("begin", "--version", "8")...).want(t, tc.exit, tc.code, tc.next)
		})
	}
}

func TestBeginOfAVersionThatIsRejected(t *testing.T) {
	const detail = "version 8 was not taken: version 8 is the one that is served, or has its value (VERSION_UNCHANGED)"
	api := newFakeAPI(t, map[string]http.HandlerFunc{beginRoute: refusing(409, "VERSION_REJECTED", detail)})
	api.process().run(t, rotate("begin", "--version", "8")...).want(t, exitRefused,
		"or has its value (VERSION_REJECTED, VERSION_UNCHANGED, request id req-42)\n",
		"next: nothing was changed; add a version with another value to the backend, and preview that")
}

func TestStepWithAnUnknownOutcome(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{promoteRoute: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }})
	api.process().run(t, rotate("promote")...).want(t, exitUnavailable, "it may have been done all the same: look with 'omni-secrets rotate status'")
}

func TestStepOfSomethingElse(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{promoteRoute: answer(200, `{"secretType":"another"}`)})
	api.process().run(t, rotate("promote")...).want(t, exitFailure, "the answer is not one of Omni Secrets")
}

const rotationsDocument = `{"data":[
{"secretType":"trading_api_key","status":"active","owner":"Security Engineering","cacheSource":"gsm","cacheVersion":"8","rotationDueAt":"2027-03-01T12:00:00.000Z","rotationState":"current","lastRotatedAt":"2026-03-01T12:00:00.000Z","pinnedVersion":"8"},
{"secretType":"trading_client_secret","status":"rotating","owner":"Security Engineering","cacheSource":"gsm","cacheVersion":"3","rotationDueAt":"2026-03-02T18:00:00.000Z","rotationState":"due_soon","rotatingToVersion":"4","rotatingSince":"2026-03-01T11:50:00.000Z","rotatingBy":"ana@example.com","pinnedVersion":"3"},
{"secretType":"webhook_shared_secret","status":"active","owner":"Platform Reliability","cacheSource":"break_glass","cacheVersion":"bg-X","rotationDueAt":"2026-03-01T11:00:00.000Z","rotationState":"overdue"},
{"secretType":"trading_api_passphrase","status":"active","owner":"Security Engineering","cacheSource":"gsm","cacheVersion":"1","rotationDueAt":"2026-03-01T15:30:00.000Z","rotationState":"due_soon"},
{"secretType":"zk_signing_seed","status":"deprecated","owner":"Security Engineering","cacheSource":"gsm","cacheVersion":"1","rotationDueAt":"2026-01-01T00:00:00.000Z","rotationState":"overdue"}
],"updatedAt":"2026-03-01T12:00:00.000Z"}`

func TestRotateStatusTable(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(200, rotationsDocument)})
	o := api.process().run(t, "rotate", "status")
	o.want(t, exitOK)
	golden(t, "rotate_status.golden", o.out)
}

func TestRotateStatusOfOne(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(200, rotationsDocument)})
	o := api.process().run(t, rotate("status")...)
	o.want(t, exitOK, "trading_api_key")
	if strings.Contains(o.out, "zk_signing_seed") {
		t.Errorf("standard output:\n%s", o.out)
	}
	o = api.process().run(t, rotate("status", "-o", "json")...)
	o.want(t, exitOK, `"updatedAt":"2026-03-01T12:00:00.000Z"`, `"pinnedVersion":"8"`)
	if strings.Contains(o.out, "zk_signing_seed") {
		t.Errorf("standard output:\n%s", o.out)
	}
	api.process().run(t, "rotate", "status", "--secret-type", "nothing").want(t, exitNotFound, "the server has no secret nothing")
}

func TestRotateDueTable(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(200, rotationsDocument)})
	o := api.process().run(t, "rotate", "due")
	o.want(t, exitOK)
	golden(t, "rotate_due.golden", o.out)
}

func TestRotateDueAsJSON(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(200, rotationsDocument)})
	o := api.process().run(t, "rotate", "due", "-o", "json")
	o.want(t, exitOK)
	golden(t, "rotate_due.json.golden", o.out)
}

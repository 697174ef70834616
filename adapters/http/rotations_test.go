package http_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	previewPath   = "/ops/apex-omni/secrets/rotation-preview"
	rotationsPath = "/ops/apex-omni/secrets/rotations"
	followUpsPath = glassPath + "/follow-ups"
	promotePath   = rotationsPath + "/trading_api_key/promote"
	abortPath     = rotationsPath + "/trading_api_key/abort"
	recordPath    = rotationsPath + "/trading_api_key/record"
)

func rotation(version string) string {
	return fmt.Sprintf(`{"secretType":"trading_api_key","gcpSecretVersion":%q}`, version)
}

func (f *fixture) wantRow(row map[string]any, fields ...any) {
	f.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		if name := fields[i].(string); row[name] != fields[i+1] {
			f.t.Errorf("%s is %v, want %v, in %v", name, row[name], fields[i+1], row)
		}
	}
}

func TestRotationPreview(t *testing.T) {
	f := newFixture(t).run()
	f.backend.Set("key", "key-2")
	m := f.do("POST", previewPath, tokenOps, rotation("2")).want(200, "").json()
	if _, failed := m["errorCode"]; failed || m["validated"] != true || m["version"] != "2" || m["latencyMs"].(float64) < 0 {
		t.Errorf("answer: %v", m)
	}
	f.wantRow(f.statusOf("trading_api_key"), "status", "active", "cacheVersion", "1", "rotatingToVersion", nil)

	for body, code := range map[string]string{
		rotation("1"): "VERSION_UNCHANGED",
		rotation("9"): "VERSION_UNREADABLE",
		`{"secretType":"trading_api_key","gcpSecretVersion":"2","dryRunWebhookUrl":"https://hooks.example.com/"}`: "WEBHOOK_FORBIDDEN",
	} {
		m := f.do("POST", previewPath, tokenOps, body).want(200, "").json()
		if m["validated"] != false || m["errorCode"] != code || m["message"] == "" {
			t.Errorf("%s: %v", body, m)
		}
	}
}

func TestRotation(t *testing.T) {
	f := newFixture(t).run()
	f.backend.Set("key", "key-2")
	f.do("POST", promotePath, tokenOps, "").want(409, domain.CodeNoRotation)
	f.do("POST", abortPath, tokenOps, "").want(409, domain.CodeNoRotation)
	f.do("POST", rotationsPath, tokenOps, rotation("1")).want(409, domain.CodeVersionRejected)

	f.wantRow(f.do("POST", rotationsPath, tokenOps, rotation("2")).want(201, "").json(),
		"secretType", "trading_api_key", "status", "rotating", "cacheVersion", "1",
		"rotatingToVersion", "2", "rotatingBy", "subject-ops", "pinnedVersion", "1")
	if since := f.statusOf("trading_api_key")["rotatingSince"]; since == nil {
		t.Error("rotatingSince is null")
	}
	f.do("POST", rotationsPath, tokenOps, rotation("2")).want(409, domain.CodeRotationInProgress)
	f.do("POST", recordPath, tokenOps, `{"rotatedAt":"2026-01-01T00:00:00Z"}`).want(409, domain.CodeRotationInProgress)
	f.backend.Set("key", "key-3")
	f.do("POST", previewPath, tokenOps, rotation("3")).want(409, domain.CodeRotationInProgress)

	f.wantRow(f.do("POST", promotePath, tokenOps, "").want(200, "").json(),
		"status", "active", "cacheVersion", "2", "rotatingToVersion", nil, "rotatingSince", nil, "rotatingBy", nil, "pinnedVersion", "2")
	if m := f.do("GET", "/internal/apex-omni/secrets/trading_api_key", tokenRead, "").want(200, "").json(); m["value"] != "key-2" {
		t.Errorf("a reader gets %v", m)
	}

	f.do("POST", rotationsPath, tokenOps, rotation("3")).want(201, "")
	f.wantRow(f.do("POST", abortPath, tokenOps, "{}").want(200, "").json(),
		"status", "active", "cacheVersion", "2", "rotatingToVersion", nil, "pinnedVersion", "2")
}

func TestRotationWhileTheBackendIsAway(t *testing.T) {
	f := newFixture(t).run()
	f.backend.Set("key", "key-2")
	f.backend.Fail("key", domain.ReasonUnavailable)
	a := f.do("POST", rotationsPath, tokenOps, rotation("2")).want(503, domain.CodeVersionUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestRotationMadeElsewhere(t *testing.T) {
	f := newFixture(t).run()
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	f.wantRow(f.do("POST", recordPath, tokenOps, fmt.Sprintf(`{"rotatedAt":%q}`, at.Format(time.RFC3339Nano))).want(200, "").json(),
		"lastRotatedAt", at.Format("2006-01-02T15:04:05.000Z"), "rotationDueAt", domain.RotationDue(at, 12).Format("2006-01-02T15:04:05.000Z"))
}

func TestRotationMadeElsewhereJustNow(t *testing.T) {
	for _, body := range []string{"", "{}", `{"rotatedAt":null}`} {
		f := newFixture(t).run()
		before := time.Now().Truncate(time.Millisecond)
		row := f.do("POST", recordPath, tokenOps, body).want(200, "").json()
		at, err := time.Parse(time.RFC3339, fmt.Sprint(row["lastRotatedAt"]))
		if err != nil || at.Before(before) || at.After(time.Now()) {
			t.Errorf("with the body %q it was rotated at %v", body, row["lastRotatedAt"])
		}
	}
}

func TestFollowUps(t *testing.T) {
	f := newFixture(t).run()
	if m := f.do("GET", followUpsPath, tokenOps, "").want(200, "").json(); fmt.Sprint(m["data"]) != "[]" {
		t.Errorf("before any override: %v", m)
	}
	f.do("POST", glassPath, tokenOps, envelopeBody(t, nil)).want(201, "")
	f.do("POST", glassPath, tokenOps, envelopeBody(t, func(m map[string]any) { delete(m, "reason"); m["ciphertext"] = "sealed:again" })).want(201, "")
	list := f.do("GET", followUpsPath, tokenOps, "").want(200, "").json()["data"].([]any)
	if len(list) != 2 {
		t.Fatalf("%d follow-ups: %v", len(list), list)
	}
	first, second := list[0].(map[string]any), list[1].(map[string]any)
	f.wantRow(first, "secretType", "trading_api_key", "appliedBy", "subject-ops", "reason", "drill", "overdue", false)
	f.wantRow(second, "reason", nil)
	f.wantRow(f.statusOf("trading_api_key"), "openFollowUps", 2.0, "followUpOpenedAt", first["openedAt"])

	path := followUpsPath + "/" + first["overrideId"].(string) + "/close"
	f.do("POST", path, tokenOps, `{"reason":"a drill with a made-up value"}`).want(204, "")
	f.do("POST", path, tokenOps, `{"reason":"again"}`).want(404, domain.CodeNoFollowUp)
	f.wantRow(f.statusOf("trading_api_key"), "openFollowUps", 1.0, "followUpOpenedAt", second["openedAt"])

	f.backend.Set("key", "key-2")
	f.do("POST", rotationsPath, tokenOps, rotation("2")).want(201, "")
	f.wantRow(f.do("POST", promotePath, tokenOps, "").want(200, "").json(), "openFollowUps", 0.0, "followUpOpenedAt", nil)
}

func TestBadBodiesOfRotations(t *testing.T) {
	f := newFixture(t).run()
	f.backend.Set("key", "key-2")
	f.do("POST", rotationsPath, tokenOps, rotation("2")).want(201, "")
	for _, c := range []struct{ name, path, body string }{
		{"a preview of nothing", previewPath, ""},
		{"a preview of no version", previewPath, `{"secretType":"trading_api_key"}`},
		{"a preview of a number", previewPath, `{"secretType":"trading_api_key","gcpSecretVersion":2}`},
		{"a preview of an alias", previewPath, rotation("latest")},
		{"a preview with an unknown field", previewPath, `{"secretType":"trading_api_key","gcpSecretVersion":"2","webhook":"x"}`},
		{"a rotation without a type", rotationsPath, `{"gcpSecretVersion":"2"}`},
		{"a rotation to an alias", rotationsPath, rotation("latest")},
		{"a rotation to a version with a leading zero", rotationsPath, rotation("02")},
		{"a promotion of another version", promotePath, `{"gcpSecretVersion":"3"}`},
		{"an abort with a body", abortPath, `{"secretType":"trading_api_key"}`},
		{"a time that is empty", rotationsPath + "/zk_signing_seed/record", `{"rotatedAt":""}`},
		{"a time that would stand for now", rotationsPath + "/zk_signing_seed/record", `{"rotatedAt":"0001-01-01T00:00:00Z"}`},
		{"a time that is none", rotationsPath + "/zk_signing_seed/record", `{"rotatedAt":"yesterday"}`},
		{"a time in the future", rotationsPath + "/zk_signing_seed/record", `{"rotatedAt":"2999-01-01T00:00:00Z"}`},
		{"a follow-up without a reason", followUpsPath + "/bg-1/close", ``},
		{"a follow-up with two lines", followUpsPath + "/bg-1/close", `{"reason":"a\nb"}`},
		{"a follow-up with a reason that is too long", followUpsPath + "/bg-1/close", `{"reason":"` + strings.Repeat("x", 501) + `"}`},
	} {
		t.Run(c.name, func(*testing.T) {
			f.do("POST", c.path, tokenOps, c.body).want(http.StatusBadRequest, domain.CodeInvalidRequest)
		})
	}
	for _, path := range []string{"/nope/promote", "/nope/abort", "/nope/record"} {
		f.do("POST", rotationsPath+path, tokenOps, map[bool]string{true: `{"rotatedAt":"2026-01-01T00:00:00Z"}`}[path == "/nope/record"]).
			want(404, domain.CodeUnknownSecretType)
	}
	f.do("POST", previewPath, tokenOps, `{"secretType":"nope","gcpSecretVersion":"1"}`).want(404, domain.CodeUnknownSecretType)
	f.wantRow(f.statusOf("trading_api_key"), "status", "rotating")
}

func TestRotationsWhileTheDatabaseIsAway(t *testing.T) {
	f := newFixture(t).run()
	f.store.FailWith(errors.New("dial tcp 10.0.0.7:5432: connection refused"))
	for _, a := range []answer{
		f.do("POST", previewPath, tokenOps, rotation("1")),
		f.do("POST", rotationsPath, tokenOps, rotation("1")),
		f.do("POST", promotePath, tokenOps, ""),
		f.do("POST", abortPath, tokenOps, ""),
		f.do("POST", recordPath, tokenOps, `{"rotatedAt":"2026-01-01T00:00:00Z"}`),
		f.do("GET", followUpsPath, tokenOps, ""),
		f.do("POST", followUpsPath+"/bg-1/close", tokenOps, `{"reason":"x"}`),
	} {
		a.want(503, domain.CodeStateUnavailable)
		if strings.Contains(string(a.body), "10.0.0.7") || a.header.Get("Retry-After") != "1" {
			t.Errorf("answer: %s, Retry-After %s", a.body, a.header.Get("Retry-After"))
		}
	}
}

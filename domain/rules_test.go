package domain_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // for machines that have none

	"github.com/apex-tradebill/omni-secrets/domain"
)

func TestOverrideExpiry(t *testing.T) {
	for _, c := range []struct {
		expiresAt string
		ok        bool
	}{
		{"2026-03-01T12:25:00Z", true},
		{"2026-03-01T12:30:00Z", true},
		{"2026-03-01T13:30:00+01:00", true},
		{"2026-03-01T12:30:00.001Z", false},
		{"2026-03-01T12:30:01Z", false},
		{"2026-03-01T12:00:00Z", false},
		{"2026-03-01T11:59:59Z", false},
		{"2026-03-01 12:25:00", false},
		{"25m", false},
		{"", false},
	} {
		at, err := domain.OverrideExpiry(c.expiresAt, t0)
		if c.ok != (err == nil) {
			t.Errorf("%q: %v", c.expiresAt, err)
		}
		if err == nil && at.Format(time.RFC3339) != c.expiresAt {
			t.Errorf("%q was read as %v", c.expiresAt, at)
		}
		if e, ok := errors.AsType[*domain.Error](err); err != nil && (!ok || e.Code != domain.CodeInvalidBreakGlassTTL) {
			t.Errorf("%q: error %v", c.expiresAt, err)
		}
	}
}

func TestRotationDue(t *testing.T) {
	for _, c := range []struct {
		rotated string
		months  int
		want    string
	}{
		{"2026-03-01T12:00:00Z", 12, "2027-03-01T12:00:00Z"},
		{"2026-08-31T12:00:00Z", 6, "2027-02-28T12:00:00Z"},
		{"2027-08-31T12:00:00Z", 6, "2028-02-29T12:00:00Z"},
		{"2028-02-29T12:00:00Z", 12, "2029-02-28T12:00:00Z"},
		{"2026-01-31T23:59:59Z", 1, "2026-02-28T23:59:59Z"},
		{"2026-12-15T00:00:00Z", 1, "2027-01-15T00:00:00Z"},
	} {
		rotated, _ := time.Parse(time.RFC3339, c.rotated)
		if got := domain.RotationDue(rotated, c.months).Format(time.RFC3339); got != c.want {
			t.Errorf("%s + %d months = %s, want %s", c.rotated, c.months, got, c.want)
		}
	}
}

// A deadline is the same on every server, also in a zone whose days do not all have a midnight: on 15 October 2017 the clocks
// of São Paulo went from 23:59 to 01:00.
func TestRotationDueDependsOnNoZone(t *testing.T) {
	saoPaulo, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	rotated := time.Date(2017, 4, 15, 0, 30, 0, 0, saoPaulo)
	if got, want := domain.RotationDue(rotated, 6), "2017-10-15T03:30:00Z"; got.Format(time.RFC3339) != want {
		t.Errorf("due %s, want %s", got.Format(time.RFC3339), want)
	}
}

func TestRotationStateAt(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		left time.Duration
		want domain.RotationState
	}{
		{31 * day, domain.RotationCurrent},
		{30*day + 1, domain.RotationCurrent},
		{30 * day, domain.RotationDueSoon},
		{0, domain.RotationDueSoon},
		{-1, domain.RotationOverdue},
	} {
		if got := domain.RotationStateAt(t0.Add(c.left), t0); got != c.want {
			t.Errorf("%v left: %s, want %s", c.left, got, c.want)
		}
	}
}

func entry(change func(*domain.Entry)) domain.Entry {
	e := domain.Entry{Type: "trading_api_key", Backend: "gsm", Reference: "projects/p/secrets/s", Version: "latest", Owner: "o", RotationMonths: 12}
	change(&e)
	return e
}

func TestCatalogValidate(t *testing.T) {
	for _, c := range []struct {
		name    string
		catalog domain.Catalog
		want    []string // parts of the message; none: valid
	}{
		{"valid", domain.Catalog{entry(func(e *domain.Entry) { e.Readers = []string{"svc-*", "cron"} })}, nil},
		{"no entries", nil, []string{"lists no secrets"}},
		{"listed twice", domain.Catalog{entry(func(*domain.Entry) {}), entry(func(*domain.Entry) {})}, []string{"entry 2", "listed twice"}},
		{"everything missing", domain.Catalog{{}}, []string{"type \"\"", "backend", "reference", "version", "owner", "rotationMonths"}},
		{"bad type", domain.Catalog{entry(func(e *domain.Entry) { e.Type = "Trading-Key" })}, []string{"must match"}},
		{"star inside a reader", domain.Catalog{entry(func(e *domain.Entry) { e.Readers = []string{"a*b"} })}, []string{"one * is allowed"}},
		{"negative policy", domain.Catalog{entry(func(e *domain.Entry) { e.TTL = -1 })}, []string{"negative"}},
		{"rotation too long", domain.Catalog{entry(func(e *domain.Entry) { e.RotationMonths = 121 })}, []string{"1 to 120"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.catalog.Validate()
			if (err == nil) != (len(c.want) == 0) {
				t.Fatalf("Validate: %v", err)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestForeignProjects(t *testing.T) {
	catalog := domain.Catalog{
		entry(func(e *domain.Entry) { e.Type, e.Reference = "a", "projects/prod-1/secrets/s" }),
		entry(func(e *domain.Entry) { e.Type, e.Reference = "b", "projects/dev-1/secrets/s" }),
		entry(func(e *domain.Entry) { e.Type, e.Reference = "c", "projects/prod-2/locations/eu/secrets/s" }),
		entry(func(e *domain.Entry) { e.Type, e.Reference = "d", "local-file" }),
	}
	types := func(list []domain.Entry) (types []domain.SecretType) {
		for _, e := range list {
			types = append(types, e.Type)
		}
		return types
	}
	production := []string{"prod-1", "prod-2", ""}
	if got := types(catalog.ForeignProjects("staging", production)); !slices.Equal(got, []domain.SecretType{"a", "c"}) {
		t.Errorf("staging: %v", got)
	}
	if got := catalog.ForeignProjects(domain.Production, production); got != nil {
		t.Errorf("production: %v", types(got))
	}
	if got := catalog.ForeignProjects("", production); len(got) != 2 {
		t.Errorf("no environment: %v", types(got))
	}
}

func TestScopes(t *testing.T) {
	all := domain.ScopeOps | domain.ScopeRead | domain.ScopeCacheRefresh
	for _, name := range all.Names() {
		if s := domain.ParseScope(name); s.String() != name {
			t.Errorf("%s is read as %v", name, s.Names())
		}
	}
	for _, name := range []string{"omni:manage", "omni:ops"} {
		if got := domain.ParseScope(name); got != domain.ScopeOps {
			t.Errorf("%s opens %v", name, got.Names())
		}
	}
	for _, name := range []string{"", "svc.omni.secrets", "SVC.OMNI.SECRETS.READ", "*", "ops"} {
		if got := domain.ParseScope(name); got != 0 {
			t.Errorf("%q opens %v", name, got.Names())
		}
	}
	if domain.RoleScope("ops") != domain.ScopeOps || domain.RoleScope("omni-ops") != domain.ScopeOps || domain.RoleScope("admin") != 0 {
		t.Error("roles")
	}
	if domain.ScopeOps&(domain.ScopeRead|domain.ScopeCacheRefresh) != 0 {
		t.Error("an operators' scope opens a service's endpoint")
	}
}

// TestNoScopeOpensNothing is about an endpoint for which somebody forgot to say which scope it needs.
func TestNoScopeOpensNothing(t *testing.T) {
	for _, p := range []domain.Principal{{}, {Subject: "ops", Scopes: domain.ScopeOps}} {
		if p.Allows(0) {
			t.Errorf("%+v may call what asks for no scope", p)
		}
	}
}

func TestActorOfAPrincipal(t *testing.T) {
	for _, c := range []struct {
		principal domain.Principal
		want      domain.Actor
	}{
		{domain.Principal{}, domain.Anonymous},
		{domain.Principal{Subject: "s", Scopes: domain.ScopeRead}, domain.Actor{Type: domain.ActorService, ID: "s"}},
		{domain.Principal{Subject: "s", Scopes: domain.ScopeRead | domain.ScopeStatus}, domain.Actor{Type: domain.ActorOperator, ID: "s"}},
	} {
		if got := c.principal.Actor(); got != c.want {
			t.Errorf("%+v is %+v, want %+v", c.principal, got, c.want)
		}
	}
}

func TestEventIDAsText(t *testing.T) {
	for want, id := range map[string]domain.EventID{
		"0000000000000000-0000000000000000": {},
		"0123456789abcdef-00000000000000a0": {Start: 0x0123456789abcdef, Seq: 0xa0},
		"ffffffffffffffff-ffffffffffffffff": {Start: 1<<64 - 1, Seq: 1<<64 - 1},
	} {
		if got := id.String(); got != want {
			t.Errorf("%#v is %s, want %s", id, got, want)
		}
	}
}

func FuzzParseEventID(f *testing.F) {
	f.Add(domain.EventID{Start: 1, Seq: 2}.String())
	f.Add("zz")
	f.Add("+000000000000001-000000000000000x")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := domain.ParseEventID(s)
		if err != nil {
			return
		}
		if again, err := domain.ParseEventID(id.String()); err != nil || again != id {
			t.Errorf("%q: %v, %v", s, again, err)
		}
	})
}

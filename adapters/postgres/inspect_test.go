package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
)

func TestClock(t *testing.T) {
	s := open(t, postgrestest.Empty(t))
	asked := time.Now()
	now, readOnly, err := s.Clock(t.Context())
	if err != nil || readOnly || now.Before(asked.Add(-time.Second)) || now.After(time.Now().Add(time.Second)) {
		t.Errorf("Clock: %v, read-only %v, %v; it is this machine's", now, readOnly, err)
	}
	standby := parsed(t, postgrestest.Empty(t))
	query := standby.Query()
	query.Set("default_transaction_read_only", "on")
	standby.RawQuery = query.Encode()
	if _, readOnly, err := open(t, standby.String()).Clock(t.Context()); err != nil || !readOnly {
		t.Errorf("Clock of a server that only reads: read-only %v, %v", readOnly, err)
	}
}

func TestRights(t *testing.T) {
	owner, server := asServer(t)
	if got, err := open(t, owner).Rights(t.Context()); err != nil || len(got.Lacking) > 0 || !got.MayChangeTrail {
		t.Errorf("of the owner: %+v, %v", got, err)
	}
	if got, err := open(t, server).Rights(t.Context()); err != nil || len(got.Lacking) > 0 || got.MayChangeTrail {
		t.Errorf("of the server's role: %+v, %v", got, err)
	}

	db, user := raw(t, owner), parsed(t, server).User.Username()
	execute(t, db, `GRANT DELETE ON omni_secret_access_events TO `+user)
	if got, err := open(t, server).Rights(t.Context()); err != nil || !got.MayChangeTrail {
		t.Errorf("of one who may delete events: %+v, %v", got, err)
	}

	execute(t, db, `REVOKE omni_app FROM `+user)
	got, err := open(t, server).Rights(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"SELECT on goose_db_version", "INSERT on omni_secret_access_events", "UPDATE on omni_break_glass_overrides", "INSERT on omni_jobs",
		"USAGE on omni_secret_refresh_requests_seq", "EXECUTE on omni_prune_access_events(timestamptz)",
	} {
		if !slices.Contains(got.Lacking, want) {
			t.Errorf("without the role, %q is not among what is lacking: %s", want, cmp.Diff(nil, got.Lacking))
		}
	}
}

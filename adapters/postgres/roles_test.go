package postgres_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/migrations"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

// login is a user who may do nothing yet.
type login struct{ name, password string }

// newLogin makes a user. Databases are made after it and so dropped before it, with the temporary tables that
// it owns in them.
func newLogin(t *testing.T) login {
	t.Helper()
	l := login{name: "omni_test_" + strings.ToLower(rand.Text()), password: rand.Text()}
	admin := raw(t, postgrestest.Empty(t))
	execute(t, admin, `CREATE ROLE `+l.name+` LOGIN PASSWORD '`+l.password+`'`)
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if _, err := admin.Exec(ctx, `DROP ROLE `+l.name); err != nil {
			t.Errorf("drop the role: %v", err)
		}
	})
	return l
}

// database gives the URLs of a new database for its owner, and for l with the rights of the server.
func (l login) database(t *testing.T) (owner, server string) {
	t.Helper()
	owner = postgrestest.Database(t)
	db := raw(t, owner)
	for range 2 { // again does no harm
		execute(t, db, migrations.PostgresRoles())
	}
	execute(t, db, `GRANT omni_app TO `+l.name)
	return owner, asUser(t, owner, l.name, l.password)
}

func asServer(t *testing.T) (owner, server string) {
	t.Helper()
	return newLogin(t).database(t)
}

func TestTheServersRoleSuffices(t *testing.T) {
	user := newLogin(t)
	create := func(t *testing.T) *postgres.Store {
		_, url := user.database(t)
		s := open(t, url)
		if err := s.CheckSchema(t.Context()); err != nil {
			t.Fatalf("CheckSchema: %v", err)
		}
		return s
	}
	t.Run("metadata", func(t *testing.T) {
		porttest.RunMetadata(t, func(t *testing.T) porttest.State { return create(t) })
	})
	t.Run("overrides", func(t *testing.T) {
		porttest.RunOverrides(t, func(t *testing.T) porttest.State { return create(t) })
	})
	t.Run("rotations", func(t *testing.T) {
		porttest.RunRotations(t, func(t *testing.T) porttest.State { return create(t) })
	})
	t.Run("follow-ups", func(t *testing.T) {
		porttest.RunFollowUps(t, func(t *testing.T) porttest.State { return create(t) })
	})
	t.Run("audit", func(t *testing.T) {
		porttest.RunAuditStore(t, func(t *testing.T) ports.AuditStore { return create(t) })
	})
	t.Run("replicas", func(t *testing.T) {
		porttest.RunReplicas(t, func(t *testing.T) []porttest.Replica {
			s := create(t)
			return []porttest.Replica{s, s}
		})
	})
	t.Run("leadership", func(t *testing.T) {
		porttest.RunLeadership(t, func(t *testing.T) []ports.Leadership {
			s := create(t).WithPace(time.Hour, 20*time.Millisecond)
			return []ports.Leadership{s, s}
		})
	})
}

func TestTheServersRoleMayPruneWholePartitions(t *testing.T) {
	owner, server := asServer(t)
	s, db := open(t, server), raw(t, owner)
	week := longAgo().AddDate(0, 0, -14)
	makePartition(t, db, week)
	insert(t, s, event(1, week), event(2, time.Now()))
	if n, err := s.PruneEvents(t.Context(), longAgo()); err != nil || n != 1 {
		t.Errorf("PruneEvents: %d, %v, want 1", n, err)
	}
	if got := list(t, s, domain.EventFilter{}); len(got) != 1 || got[0].ID.Seq != 2 {
		t.Errorf("left: %v", got)
	}
}

func TestTheServersRoleCannotTouchTheAuditTrail(t *testing.T) {
	owner, server := asServer(t)
	insert(t, open(t, owner), event(1, time.Now()))
	week := partition(time.Now())
	db := raw(t, server)
	for _, statement := range []string{
		`UPDATE omni_secret_access_events SET actor_id = 'forger'`,
		`DELETE FROM omni_secret_access_events`,
		`TRUNCATE omni_secret_access_events`,
		`DROP TABLE omni_secret_access_events`,
		`ALTER TABLE omni_secret_access_events DISABLE TRIGGER ALL`,
		`ALTER TABLE omni_secret_access_events DETACH PARTITION ` + week,
		`DROP TRIGGER omni_secret_access_events_no_change ON omni_secret_access_events`,
		`CREATE TRIGGER mine BEFORE INSERT ON omni_secret_access_events FOR EACH ROW EXECUTE FUNCTION omni_secret_access_events_append_only()`,
		`UPDATE ` + week + ` SET actor_id = 'forger'`,
		`DELETE FROM ` + week,
		`TRUNCATE ` + week,
		`DROP TABLE ` + week,
		`INSERT INTO ` + week + ` SELECT * FROM omni_secret_access_events`,
		`DELETE FROM omni_secret_access_events_default`,
		`CREATE OR REPLACE FUNCTION omni_secret_access_events_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'`,
		`SELECT omni_make_event_partition(now() + interval '1 year')`,
		`SET session_replication_role = replica`,
		`CREATE TABLE mine (id int)`,
		`DELETE FROM omni_break_glass_overrides`,
		`TRUNCATE omni_break_glass_overrides`,
		`DELETE FROM omni_secret_metadata`,
		`DELETE FROM goose_db_version`,
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`,
	} {
		_, err := db.Exec(t.Context(), statement)
		wantState(t, statement, err, "42501")
	}
}

// A role that could put its own table or function where ours are looked for would run code as the owner.
func TestFunctionsOfTheOwnerPinTheirSearchPath(t *testing.T) {
	owner, server := asServer(t)
	const definer = `SELECT proname || ': ' || coalesce(array_to_string(proconfig, ', '), '') FROM pg_proc
		WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'omni_%' AND
		      (proconfig IS NULL OR NOT 'search_path=public, pg_temp' = ANY (proconfig))`
	if got := lines(t, raw(t, owner), definer); len(got) != 0 {
		t.Errorf("functions without: %v", got)
	}

	s, db := open(t, owner), raw(t, server)
	insert(t, s, event(1, time.Now()))
	execute(t, db, `CREATE TEMPORARY TABLE omni_secret_access_events_default (recorded_at timestamptz)`)
	execute(t, db, `CREATE FUNCTION pg_temp.omni_make_event_partition(timestamptz) RETURNS boolean LANGUAGE plpgsql
		AS $$ BEGIN TRUNCATE public.omni_secret_access_events; RETURN true; END $$`)
	execute(t, db, `SET search_path = pg_temp, public`)
	execute(t, db, `SELECT omni_prune_access_events($1)`, longAgo())
	if got := list(t, s, domain.EventFilter{}); len(got) != 1 {
		t.Errorf("%d events, want 1", len(got))
	}
}

func TestEverybodyElseMayNothing(t *testing.T) {
	owner, server := asServer(t)
	execute(t, raw(t, owner), `REVOKE omni_app FROM `+parsed(t, server).User.Username())
	db := raw(t, server)
	for _, statement := range []string{
		`SELECT * FROM omni_secret_access_events`,
		`SELECT * FROM omni_break_glass_overrides`,
		`SELECT omni_make_event_partitions()`,
		`SELECT omni_prune_access_events(now() - interval '1 year')`,
	} {
		_, err := db.Exec(t.Context(), statement)
		wantState(t, statement, err, "42501")
	}
}

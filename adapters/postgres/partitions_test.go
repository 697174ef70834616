package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const day = 24 * time.Hour

// monday is the beginning of the week of t, as partitions have it.
func monday(t time.Time) time.Time {
	t = t.UTC().Truncate(day)
	return t.AddDate(0, 0, -(int(t.Weekday())+6)%7)
}

func partition(week time.Time) string {
	return "omni_secret_access_events_" + monday(week).Format("20060102")
}

const defaultPartition = "omni_secret_access_events_default"

// partitions lists the partitions of the audit trail by name, which is by time.
func partitions(t *testing.T, db *pgx.Conn) []string {
	t.Helper()
	return lines(t, db, `SELECT inhrelid::regclass::text FROM pg_inherits
		WHERE inhparent = 'omni_secret_access_events'::regclass ORDER BY 1`)
}

// makePartition makes the partition of a week as if the program had run then.
func makePartition(t *testing.T, db *pgx.Conn, week time.Time) {
	t.Helper()
	if !one[bool](t, db, `SELECT omni_make_event_partition($1)`, week) {
		t.Fatalf("no partition was made for %v", week)
	}
}

func comingWeeks(now time.Time) []string {
	var names []string
	for week := range 5 {
		names = append(names, partition(now.AddDate(0, 0, 7*week)))
	}
	return names
}

func TestPartitionsAreMadeAhead(t *testing.T) {
	db := raw(t, postgrestest.Database(t))
	want := append(comingWeeks(one[time.Time](t, db, `SELECT now()`)), defaultPartition)
	if diff := cmp.Diff(want, partitions(t, db)); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
	if n := one[int](t, db, `SELECT omni_make_event_partitions()`); n != 0 {
		t.Errorf("%d more were made the second time", n)
	}
}

// Whatever the time zone, the order of dates and the schema path of whoever calls.
func TestPartitionsDoNotDependOnTheSession(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	execute(t, db, `SET timezone = 'Pacific/Kiritimati'`)
	execute(t, db, `SET datestyle = 'SQL, DMY'`)
	execute(t, db, `SET search_path = pg_catalog`)
	week := monday(longAgo().AddDate(0, 0, -21))
	if !one[bool](t, db, `SELECT public.omni_make_event_partition($1)`, week) {
		t.Fatal("no partition was made")
	}
	insert(t, s, event(1, week), event(2, week.AddDate(0, 0, 7).Add(-time.Microsecond)))

	if n := one[int](t, db, `SELECT count(*) FROM public.`+partition(week)); n != 2 {
		t.Errorf("%d events in the partition, want its first and its last", n)
	}
	if n := one[int](t, db, `SELECT public.omni_prune_access_events($1)`, longAgo()); n != 2 {
		t.Errorf("%d events pruned, want 2", n)
	}
}

func TestEventsGoToTheirWeekOrToTheDefault(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	now := time.Now()
	for seq, c := range []struct {
		recorded time.Time
		want     string
	}{
		{now, partition(now)},
		{now.AddDate(0, 0, 28), partition(now.AddDate(0, 0, 28))},
		{now.AddDate(0, 0, 42), defaultPartition},
		{now.AddDate(0, 0, -8), defaultPartition},
		{time.Unix(0, 0), defaultPartition},
		{now.AddDate(500, 0, 0), defaultPartition},
	} {
		e := event(uint64(seq+1), c.recorded)
		insert(t, s, e)
		got := one[string](t, db, `SELECT tableoid::regclass::text FROM omni_secret_access_events WHERE event_id = $1`, e.ID.String())
		if got != c.want {
			t.Errorf("an event of %v is in %s, want %s", c.recorded, got, c.want)
		}
	}
}

// After a long stop there are events in the default partition whose week cannot have one of its own any more.
func TestMakingPartitionsPassesOverWeeksInTheDefault(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	now := one[time.Time](t, db, `SELECT now()`)
	execute(t, db, `DROP TABLE `+partition(now)+`, `+partition(now.AddDate(0, 0, 7)))
	insert(t, s, event(1, now))

	if n := one[int](t, db, `SELECT omni_make_event_partitions()`); n != 1 {
		t.Errorf("%d partitions were made, want 1", n)
	}
	want := slices.Concat(comingWeeks(now)[1:], []string{defaultPartition})
	if diff := cmp.Diff(want, partitions(t, db)); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
	insert(t, s, event(2, now), event(3, now.AddDate(0, 0, 7)))
	if got := list(t, s, domain.EventFilter{}); len(got) != 3 {
		t.Errorf("%d events, want 3", len(got))
	}
}

func TestPruningDropsWholeWeeks(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	limit := longAgo()
	split := monday(limit) // the week in which the limit lies
	gone := split.AddDate(0, 0, -7)
	makePartition(t, db, gone)
	makePartition(t, db, split)
	insert(t, s,
		event(1, gone.AddDate(-1, 0, 0)), // in the default partition
		event(2, gone),
		event(3, split.Add(-time.Microsecond)),
		event(4, split), // past the limit, or at it, in a week that is not
		event(5, limit.Add(time.Hour)),
		event(6, time.Now()),
	)

	if n, err := s.PruneEvents(t.Context(), limit); err != nil || n != 3 {
		t.Errorf("PruneEvents: %d, %v, want 3", n, err)
	}
	var left []uint64
	for _, e := range list(t, s, domain.EventFilter{}) {
		left = append(left, e.ID.Seq)
	}
	if diff := cmp.Diff([]uint64{6, 5, 4}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	want := slices.Concat([]string{partition(split)}, comingWeeks(one[time.Time](t, db, `SELECT now()`)), []string{defaultPartition})
	if diff := cmp.Diff(want, partitions(t, db)); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}

func TestPruningMakesThePartitionsAhead(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	next := partition(one[time.Time](t, db, `SELECT now()`).AddDate(0, 0, 28))
	execute(t, db, `DROP TABLE `+next)
	if _, err := s.PruneEvents(t.Context(), longAgo()); err != nil {
		t.Fatalf("PruneEvents: %v", err)
	}
	if !one[bool](t, db, `SELECT to_regclass($1) IS NOT NULL`, next) {
		t.Errorf("%s is still missing", next)
	}
}

// The function is what the server's role may call, past the program's own check.
func TestPruningRefusesAYoungerLimit(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	old := one[time.Time](t, db, `SELECT now() - interval '2160 hours'`)
	insert(t, s, event(1, old.Add(time.Minute)))
	for _, before := range []any{time.Now(), old.Add(10 * time.Minute), time.Now().AddDate(1, 0, 0), nil} {
		_, err := db.Exec(t.Context(), `SELECT omni_prune_access_events($1)`, before)
		wantState(t, "prune", err, "22023")
	}
	// A clock that is a little ahead of the database's is no reason to fail, nor to delete more.
	execute(t, db, `SELECT omni_prune_access_events($1)`, old.Add(4*time.Minute))
	if got := list(t, s, domain.EventFilter{}); len(got) != 1 {
		t.Errorf("%d events, want 1", len(got))
	}
}

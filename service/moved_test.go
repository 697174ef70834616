package service_test

import (
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// newMove makes a replica a of the catalog of before and b, of one that names another secret for the same type: a rolling
// update whose first step is b. The former secret has nine versions.
func newMove(t *testing.T) (a, b *fixture) {
	t.Helper()
	a, b = newReplicas(t)
	for n := 2; n <= 9; n++ {
		a.backend.Set("key", "old-"+strconv.Itoa(n))
	}
	a.backend.Set("moved", "new-1")
	b.config.Catalog = slices.Clone(b.config.Catalog)
	b.config.Catalog[0].Reference = "moved"
	b.build()
	return a, b
}

// The versions of the former secret are no rotations of the new one, and those of the new one are counted.
func TestReplicaOfAnotherCatalogCountsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMove(t)
		defer a.run()()
		a.at(time.Hour)
		defer b.run()()
		a.store.FailWith(nil) // the poll
		due := b.status(apiKey).RotationDueAt
		a.backend.Set("key", "old-10")
		a.at(2 * time.Hour)
		a.wantServed(apiKey, "old-10", "gsm", false)
		b.wantServed(apiKey, "new-1", "gsm", false)
		if st := b.status(apiKey); st.NewestVersion != "1" || !st.LastRotatedAt.IsZero() || !st.RotationDueAt.Equal(due) {
			t.Errorf("status: %+v", st.Metadata)
		}
		b.wantLogged(domain.AlertVersionRollback, 0)
		b.backend.Set("moved", "new-2")
		a.at(3 * time.Hour)
		b.wantServed(apiKey, "new-2", "gsm", false)
		b.wantSteps(domain.ActionRotationDetected, "success 2")
		a.wantServed(apiKey, "old-10", "gsm", false)
	})
}

// A replica of the former catalog notes no first version of the new secret.
func TestReplicaOfAnotherCatalogNotesNoFirstVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMove(t)
		release := a.backend.Hold("key")
		defer a.run()()
		if err := b.Start(t.Context()); err != nil { // which makes the row that of the new secret
			t.Fatal(err)
		}
		release()
		a.at(time.Minute)
		a.wantServed(apiKey, "old-9", "gsm", false)
		if st := a.status(apiKey); st.NewestVersion != "" {
			t.Errorf("the newest version is %s", st.NewestVersion)
		}
	})
}

// What a rotation of the new secret pins is none of the former one's versions.
func TestRotationIsNotFollowedByAReplicaOfAnotherCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMove(t)
		defer a.run()()
		a.at(time.Hour)
		defer b.run()()
		b.backend.Set("moved", "new-2")
		b.begin("2")
		a.at(2 * time.Hour)
		a.wantServed(apiKey, "old-9", "gsm", false)
		b.wantServed(apiKey, "new-1", "gsm", false)

		_, err := a.preview("3", "")
		a.wantCode(err, domain.CodeStateUnavailable)
		_, err = a.PromoteRotation(t.Context(), operator, apiKey)
		a.wantCode(err, domain.CodeStateUnavailable)
		_, err = a.AbortRotation(t.Context(), operator, apiKey)
		a.wantCode(err, domain.CodeStateUnavailable)
		b.promote()
		_, err = a.BeginRotation(t.Context(), operator, apiKey, "3")
		a.wantCode(err, domain.CodeStateUnavailable)
		_, err = a.RecordRotation(t.Context(), operator, apiKey, time.Time{})
		a.wantCode(err, domain.CodeStateUnavailable)
		a.at(3 * time.Hour)
		for _, action := range []domain.Action{domain.ActionRotationPreview, domain.ActionRotationPromote, domain.ActionRotationAbort, domain.ActionRotationBegin, domain.ActionWriteMetadata} {
			if !slices.ContainsFunc(a.recorded(action), func(e domain.Event) bool {
				return e.ReplicaID == "a" && e.Result == domain.ResultFailure && e.ErrorCode == string(domain.CodeStateUnavailable)
			}) {
				t.Errorf("the refusal of %s is not in the trail", action)
			}
		}
		a.wantServed(apiKey, "old-9", "gsm", false)
		b.wantServed(apiKey, "new-2", "gsm", false)
	})
}

// Nor is the standing of another secret taken over where a process that is alone finds that its row was changed.
func TestRowOfAnotherSecretIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.at(time.Hour)
		moved := f.config.Catalog[0]
		moved.Reference = "moved"
		seq := uint64(0)
		event := func(domain.SecretType) domain.Event {
			seq++
			return domain.Event{ID: domain.EventID{Start: 1, Seq: seq}, Type: apiKey, Action: domain.ActionWriteMetadata, Result: domain.ResultSuccess, RecordedAt: time.Now()}
		}
		if err := f.store.EnsureMetadata(t.Context(), []domain.Metadata{domain.NewMetadata(moved, "test", time.Now())}, event); err != nil {
			t.Fatal(err)
		}
		standing := domain.Standing{Type: apiKey, Origin: moved.Origin(), Status: domain.RotationActive, Newest: "5", Pinned: "1"}
		if ok, err := f.store.RecordRotation(t.Context(), "", standing, domain.Rotated{}, event(apiKey)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		f.backend.Set("key", "key-2")
		f.at(2 * time.Hour)
		f.wantServed(apiKey, "key-2", "gsm", false)
	})
}

const leftAlone = "the database has another secret for this type than the catalog here: nothing is counted or decided about it"

// A replica of the former catalog that is started again during an update sets the row back. If it then goes, nobody is left
// whom the row is about, and somebody must be told.
func TestRowThatIsSetBackIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMove(t)
		stop := a.run()
		a.at(time.Hour)
		defer b.run()()
		stop()
		a.build()
		stop = a.run()
		a.at(2 * time.Hour)
		stop()
		b.store.FailWith(nil) // the poll
		b.at(3 * time.Hour)
		if lines := b.wantLogged(leftAlone, 1); len(lines) == 1 && lines[0]["secretType"] != string(apiKey) {
			t.Errorf("told: %v", lines[0])
		}
		b.build()
		defer b.run()() // as the message says
		b.backend.Set("moved", "new-2")
		b.at(10 * time.Hour)
		b.wantSteps(domain.ActionRotationDetected, "success 2")
	})
}

// A replica of the former catalog that finds a row gone makes that one, and leaves the others as they are.
func TestOnlyTheRowsThatAreMissingAreMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMove(t)
		defer a.run()()
		a.at(time.Hour)
		standby := memory.New()
		made := domain.Event{ID: domain.EventID{Start: 1, Seq: 1}, Type: apiKey, Action: domain.ActionWriteMetadata, Result: domain.ResultSuccess, RecordedAt: time.Now()}
		row := domain.NewMetadata(b.config.Catalog[0], "test", time.Now())
		if err := standby.EnsureMetadata(t.Context(), []domain.Metadata{row}, func(domain.SecretType) domain.Event { return made }); err != nil {
			t.Fatal(err)
		}
		a.store.FailOver(standby)
		a.at(2 * time.Hour)
		rows, err := a.store.ListMetadata(t.Context())
		if err != nil || len(rows) != 2 || rows[0].GCPSecretID != "moved" {
			t.Errorf("%+v, %v", rows, err)
		}
	})
}

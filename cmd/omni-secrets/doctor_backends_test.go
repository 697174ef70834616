package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/localfile"
	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// What is served is not always what the catalog says: a rotation may have pinned another version.
func TestDoctorFetchesWhatIsServed(t *testing.T) {
	const key = domain.SecretType("trading_api_key")
	rotate := func(t *testing.T, to string, promote bool) *patient {
		t.Helper()
		p := newPatient(t)
		p.write("secrets/key@1", plaintext+"-1")
		p.write("secrets/key@2", plaintext+"-3")
		p.due(map[domain.SecretType]time.Time{key: time.Now().AddDate(1, 0, 0)})
		p.withDatabase(func(db *sqlite.Store) error {
			event := func(seq uint64, action domain.Action) domain.Event {
				return domain.Event{
					ID: domain.EventID{Start: 2, Seq: seq}, Type: key, Action: action, Actor: domain.Automation,
					Result: domain.ResultSuccess, ReplicaID: "replica-1", RecordedAt: time.Now(),
				}
			}
			backend, err := localfile.New(p.path("secrets"))
			if err != nil {
				return err
			}
			defer backend.Close()
			latest, err := backend.Fetch(t.Context(), "key", "latest")
			if err != nil {
				return err
			}
			newest := latest.Version
			origin := domain.Origin{Backend: localfile.Name, Reference: "key", Version: domain.LatestVersion}
			first := domain.Account{Type: key, Source: localfile.Name, Version: newest, First: newest, Origin: origin} // as a server does at its first fetch
			if err := db.RecordServed(t.Context(), []domain.Account{first}); err != nil {
				return err
			}
			r := domain.Rotation{ID: "rot-1", Type: key, From: "1", To: to, BegunBy: domain.Automation, BegunAt: time.Now()}
			standing := domain.Standing{Type: key, Origin: origin, Status: domain.RotationActive, Newest: newest}.Begun(r)
			if _, err := db.BeginRotation(t.Context(), r, newest, standing, event(1, domain.ActionRotationBegin)); err != nil || !promote {
				return err
			}
			_, err = db.EndRotation(t.Context(), r.ID, domain.RotationPromoted, standing.Promoted(),
				domain.Rotated{At: time.Now(), DueAt: time.Now().AddDate(1, 0, 0)}, event(2, domain.ActionRotationPromote))
			return err
		})
		return p
	}
	without := func(t *testing.T, p *patient, name string) {
		t.Helper()
		if err := os.Remove(p.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("pinned", func(t *testing.T) {
		rotate(t, "2", true).examine().want(t, exitOK, "ok       backend trading_api_key: local_file has version 2, which is pinned (")
	})
	t.Run("pinned, and gone", func(t *testing.T) {
		p := rotate(t, "2", true)
		without(t, p, "secrets/key@2")
		p.examine().want(t, exitUnhealthy, "failed   backend trading_api_key: version 2, which is pinned: not_found",
			"next: put it back or enable it, or rotate to another")
	})
	t.Run("pinned, and nothing behind the alias", func(t *testing.T) {
		p := rotate(t, "2", true)
		without(t, p, "secrets/key")
		p.examine().want(t, exitOK, "warning  backend trading_api_key: local_file has version 2, which is pinned (",
			"; a newer one would not be noticed: not_found", "next: put the file key into OMNI_LOCAL_FILE_DIR")
	})
	t.Run("rotating, a secret that the catalog does not name any more", func(t *testing.T) {
		p := rotate(t, "2", false)
		p.write("catalog.yaml", strings.Replace(doctorCatalog, "reference: key", "reference: moved", 1))
		p.write("secrets/moved", plaintext+"-4")
		p.examine().want(t, exitOK, "ok       backend trading_api_key: local_file has version 2") // the year of the file that was just written
	})
	t.Run("rotating", func(t *testing.T) {
		p := rotate(t, "2", false)
		without(t, p, "secrets/key") // what the alias stands for does not matter now
		p.examine().want(t, exitOK, "ok       backend trading_api_key: local_file has version 1, which is pinned (",
			"ok       backend trading_api_key: local_file has version 2, which it rotates to (")
	})
	t.Run("rotating to a version that is gone", func(t *testing.T) {
		rotate(t, "3", false).examine().want(t, exitUnhealthy, "failed   backend trading_api_key: version 3, which it rotates to: not_found",
			"next: put it back or enable it, or give the rotation up: 'omni-secrets rotate abort'")
	})
}

package postgres_test

import (
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

func TestMetadata(t *testing.T) {
	porttest.RunMetadata(t, func(t *testing.T) porttest.State { return migrated(t) })
}

func TestOverrides(t *testing.T) {
	porttest.RunOverrides(t, func(t *testing.T) porttest.State { return migrated(t) })
}

func TestRotations(t *testing.T) {
	porttest.RunRotations(t, func(t *testing.T) porttest.State { return migrated(t) })
}

func TestFollowUps(t *testing.T) {
	porttest.RunFollowUps(t, func(t *testing.T) porttest.State { return migrated(t) })
}

func TestAuditStore(t *testing.T) {
	porttest.RunAuditStore(t, func(t *testing.T) ports.AuditStore { return migrated(t) })
}

func TestAuditChains(t *testing.T) {
	porttest.RunAuditChains(t, func(t *testing.T) (porttest.ChainedState, func(string)) {
		url := postgrestest.Database(t)
		return open(t, url), func(statement string) {
			db := raw(t, url)
			for _, table := range lines(t, db, `SELECT oid::regclass::text FROM pg_class WHERE relname LIKE 'omni\_%' AND relkind IN ('r', 'p')`) {
				execute(t, db, `ALTER TABLE `+table+` DISABLE TRIGGER ALL`)
			}
			execute(t, db, statement)
		}
	})
}

// Without polling, so that nothing but notifications can tell of a change.
func TestReplicas(t *testing.T) {
	porttest.RunReplicas(t, func(t *testing.T) []porttest.Replica {
		url := postgrestest.Database(t)
		return []porttest.Replica{
			open(t, url).WithPace(time.Hour, time.Hour),
			open(t, url).WithPace(time.Hour, time.Hour),
			open(t, url).WithPace(time.Hour, time.Hour),
		}
	})
}

func TestLeadership(t *testing.T) {
	porttest.RunLeadership(t, func(t *testing.T) []ports.Leadership {
		url := postgrestest.Database(t)
		const lead = 20 * time.Millisecond
		return []ports.Leadership{
			open(t, url).WithPace(time.Hour, lead),
			open(t, url).WithPace(time.Hour, lead),
			open(t, url).WithPace(time.Hour, lead),
		}
	})
}

package memory_test

import (
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

func TestMetadata(t *testing.T) {
	porttest.RunMetadata(t, func(*testing.T) porttest.State { return memory.New() })
}

func TestOverrides(t *testing.T) {
	porttest.RunOverrides(t, func(*testing.T) porttest.State { return memory.New() })
}

func TestAuditStore(t *testing.T) {
	porttest.RunAuditStore(t, func(*testing.T) ports.AuditStore { return memory.New() })
}

func TestAuditJournal(t *testing.T) {
	porttest.RunAuditJournal(t, func(*testing.T) (porttest.Journal, func() porttest.Journal) {
		j := memory.NewJournal()
		return j, func() porttest.Journal { return j }
	})
}

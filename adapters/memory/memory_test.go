package memory_test

import (
	"runtime"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

func TestMetadata(t *testing.T) {
	porttest.RunMetadata(t, func(*testing.T) porttest.State { return memory.New() })
}

func TestOverrides(t *testing.T) {
	porttest.RunOverrides(t, func(*testing.T) porttest.State { return memory.New() })
}

func TestRotations(t *testing.T) {
	porttest.RunRotations(t, func(*testing.T) porttest.State { return memory.New() })
}

func TestFollowUps(t *testing.T) {
	porttest.RunFollowUps(t, func(*testing.T) porttest.State { return memory.New() })
}

func TestAuditStore(t *testing.T) {
	porttest.RunAuditStore(t, func(*testing.T) ports.AuditStore { return memory.New() })
}

func TestAuditChains(t *testing.T) {
	porttest.RunAuditChains(t, func(*testing.T) (porttest.ChainedState, func(string)) { return memory.New(), nil })
}

func TestAuditJournal(t *testing.T) {
	porttest.RunAuditJournal(t, func(*testing.T) (porttest.Journal, func() porttest.Journal) {
		j := memory.NewJournal()
		return j, func() porttest.Journal { return j }
	})
}

func TestSecretBackend(t *testing.T) {
	porttest.RunSecretBackend(t, func(*testing.T) porttest.BackendHarness {
		b := memory.NewBackend()
		failing := func(reason domain.Reason) func(*testing.T, bool) {
			return func(_ *testing.T, on bool) {
				if on {
					b.Fail(reference, reason)
				} else {
					b.Recover(reference)
				}
			}
		}
		return porttest.BackendHarness{
			Backend:   b,
			Reference: reference,
			Unknown:   "projects/p/secrets/unknown",
			Put:       func(_ *testing.T, value []byte) string { return b.Set(reference, string(value)) },
			Outage:    failing(domain.ReasonUnavailable),
			Deny:      failing(domain.ReasonPermissionDenied),
			Corrupt:   failing(domain.ReasonChecksumMismatch),
			Hang: func(*testing.T) (caught func()) {
				before := b.Calls(reference)
				b.Hold(reference)
				return func() {
					for b.Calls(reference) == before {
						runtime.Gosched()
					}
				}
			},
		}
	})
}

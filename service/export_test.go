package service

import "github.com/apex-tradebill/omni-secrets/domain"

// DrainBatch is how many events are drained at once.
const DrainBatch = drainBatch

// Watches is how many follow a secret.
func (s *Service) Watches(t domain.SecretType) int {
	sl := s.slots[t]
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return len(sl.watches)
}

// Remembered is how many callers a limit remembers.
func (s *Service) Remembered(name string) int {
	for _, l := range []*limit{s.refreshes, s.applies, s.failed} {
		if l != nil && l.name == name {
			return len(l.young) + len(l.old)
		}
	}
	return 0
}

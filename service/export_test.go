package service

import "github.com/apex-tradebill/omni-secrets/domain"

// Watches is how many follow a secret.
func (s *Service) Watches(t domain.SecretType) int {
	sl := s.slots[t]
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return len(sl.watches)
}

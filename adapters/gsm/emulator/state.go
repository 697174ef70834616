package emulator

import (
	"maps"
	"slices"
	"time"
)

// State is what GET /state of the control API shows: everything but payloads.
type State struct {
	Secrets []SecretState  `json:"secrets"` // by name
	Faults  []FaultState   `json:"faults"`  // in the order in which they were set
	Calls   map[string]int `json:"calls"`   // by RPC
}

// SecretState is one secret in a State.
type SecretState struct {
	Name     string           `json:"name"`
	Etag     string           `json:"etag"`
	Aliases  map[string]int64 `json:"aliases"`
	Versions []VersionState   `json:"versions"` // by number
}

// VersionState is one version in a State.
type VersionState struct {
	Version      int       `json:"version"`
	State        string    `json:"state"` // ENABLED, DISABLED or DESTROYED
	Etag         string    `json:"etag"`
	CreateTime   time.Time `json:"createTime"`
	PayloadBytes int       `json:"payloadBytes"`
	Accesses     int       `json:"accesses"` // that gave the payload
}

// FaultState is one fault in a State, and the body of POST /faults.
type FaultState struct {
	Mode    Mode     `json:"mode"`
	Secret  string   `json:"secret,omitempty"`
	Rate    *float64 `json:"rate,omitempty"` // every call when left out
	DelayMs int64    `json:"delayMs,omitempty"`
}

// State is a snapshot of the server.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := State{Secrets: []SecretState{}, Faults: []FaultState{}, Calls: maps.Clone(s.calls)}
	for _, name := range slices.Sorted(maps.Keys(s.secrets)) {
		state.Secrets = append(state.Secrets, s.secrets[name].snapshot())
	}
	for _, f := range s.faults {
		state.Faults = append(state.Faults, f.snapshot())
	}
	return state
}

func (s *secret) snapshot() SecretState {
	shown := SecretState{
		Name:     s.resource.GetName(),
		Etag:     s.resource.GetEtag(),
		Aliases:  make(map[string]int64),
		Versions: []VersionState{},
	}
	maps.Copy(shown.Aliases, s.resource.GetVersionAliases())
	for i, v := range s.versions {
		shown.Versions = append(shown.Versions, VersionState{
			Version: i + 1, State: v.state.String(), Etag: v.etag,
			CreateTime: v.created, PayloadBytes: len(v.payload), Accesses: v.accesses,
		})
	}
	return shown
}

func (f Fault) snapshot() FaultState {
	shown := FaultState{Mode: f.Mode, Secret: f.Secret, DelayMs: f.Delay.Milliseconds()}
	if f.Rate != 0 {
		shown.Rate = &f.Rate
	}
	return shown
}

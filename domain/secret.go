package domain

import "time"

// SecretType names one entry of the catalog, such as "trading_api_key".
type SecretType string

// Where a served value came from. A fetched value has its backend's name instead.
const (
	SourceBreakGlass = "break_glass"
	SourceCache      = "cache" // in metrics alone: a read answered from memory
	SourceEmpty      = "empty" // in status alone: there is nothing to serve
)

// LatestVersion asks a backend for its newest version.
const LatestVersion = "latest"

// Fetched is what a backend answered.
type Fetched struct {
	Value   Value
	Version string // the version that it is, never the alias that was asked for
}

// Served is what a reader gets.
type Served struct {
	Type      SecretType
	Value     Value
	Version   string
	Source    string // a backend's name, or SourceBreakGlass
	FetchedAt time.Time
	ExpiresAt time.Time // end of the TTL, or of the override
	Stale     bool
}

// Age is how long ago the value was fetched or injected.
func (s Served) Age(now time.Time) time.Duration { return max(0, now.Sub(s.FetchedAt)) }

// Account is what the metadata tells of a secret that is served.
type Account struct {
	Type        SecretType
	Source      string // a backend's name, SourceBreakGlass or SourceEmpty
	Version     string
	ValidatedAt time.Time // when a backend last gave the value; zero when that is not known
	First       string    // becomes the newest version of a secret that has none yet; "" when it is not known
	Origin      Origin    // whose version First is
}

// RefreshRequest says that a secret was refreshed on purpose on one replica.
type RefreshRequest struct {
	Type      SecretType
	ReplicaID string // where it was refreshed
	Seq       int64  // grows with every request for any secret
}

package client

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

// received turns what a server sent into an entry. at is an instant that the server's served_at cannot be before: what
// is counted from there ends rather too early than too late. It returns nil for what is no secret at all.
func received(s *secretsv1.Secret, at instant, confirmed *confirmation) *entry {
	if s.GetSecretType() == "" || len(s.GetValue()) == 0 || len(s.GetValue()) > domain.MaxValueBytes {
		return nil
	}
	defer clear(s.GetValue()) // the entry has a copy
	e := &entry{
		secret: Secret{
			Type:    s.GetSecretType(),
			Value:   domain.NewValue(s.GetValue()),
			Version: s.GetVersion(),
			Source:  s.GetSource(),
			Stale:   s.GetStale(),
		},
		confirmed: confirmed,
		staleFrom: forever,
		ends:      forever,
	}
	left, known := timeLeft(s.GetServedAt(), s.GetExpiresAt())
	if e.secret.Stale {
		e.staleFrom = at // it is stale by now, even with time to live left: the backend may have denied it
		if known {
			e.staleFrom = min(at, after(at, left))
		}
	}
	if e.secret.Source == SourceBreakGlass {
		if !known {
			left = 0 // an override without an end is none
		}
		e.ends = after(at, left)
	}
	return e
}

// timeLeft is the time from servedAt to expiresAt, both by the server's clock.
func timeLeft(servedAt, expiresAt *timestamppb.Timestamp) (left time.Duration, known bool) {
	if servedAt.CheckValid() != nil || expiresAt.CheckValid() != nil {
		return 0, false
	}
	return expiresAt.AsTime().Sub(servedAt.AsTime()), true
}

const (
	defaultKeepAlive = 15 * time.Second
	maxKeepAlive     = time.Minute

	// silentIntervals keep-alive intervals without a word are a lost connection.
	silentIntervals = 3
)

// allowedSilence is for how long nothing need be heard on a stream with this keep-alive interval.
func allowedSilence(intervalSeconds uint32) time.Duration {
	interval := defaultKeepAlive
	if intervalSeconds > 0 {
		interval = min(time.Duration(intervalSeconds)*time.Second, maxKeepAlive)
	}
	return silentIntervals * interval
}

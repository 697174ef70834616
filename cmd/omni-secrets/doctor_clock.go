package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
)

const (
	databaseClockCheck = "clock database"
	serverClockCheck   = "clock server"

	skewWarning = time.Second
	skewFailure = 5 * time.Second
)

// skew is how far another clock is ahead of this machine's, as far as one question tells: between low and high.
type skew struct{ low, high time.Duration }

// skewOf compares: the other clock read theirs, or up to resolution later, between asked and answered here.
func skewOf(theirs time.Time, resolution time.Duration, asked, answered time.Time) skew {
	return skew{theirs.Sub(answered), theirs.Add(resolution).Sub(asked)}
}

// atLeast is how far apart the clocks are for certain.
func (s skew) atLeast() time.Duration { return max(0, s.low, -s.high) }

// atMost is how far apart they may be, in whole seconds.
func (s skew) atMost() time.Duration {
	return (max(s.low.Abs(), s.high.Abs()) + time.Second - 1).Truncate(time.Second)
}

// finding judges by what is certain, so that a slow answer is not taken for a wrong clock.
func (s skew) finding(check, whose string) finding {
	middle, spread := (s.low+s.high)/2, (s.high-s.low)/2
	direction := "ahead of"
	if middle < 0 {
		direction = "behind"
	}
	detail := fmt.Sprintf("%s is %s %s this machine's, give or take %s", whose, middle.Abs().Round(time.Millisecond), direction, spread.Round(time.Millisecond))
	v := verdictOK
	switch least := s.atLeast(); {
	case least > skewFailure:
		v = verdictFailed
	case least > skewWarning:
		v = verdictWarning
	case spread > skewWarning:
		return found(check, verdictWarning, "%s", detail).try("the answer took too long to tell: try again")
	default:
		return found(check, v, "%s agrees with this machine's within %s", whose, max(time.Second, s.atMost()))
	}
	return found(check, v, "%s", detail).
		try("set the wrong one by NTP ('timedatectl', 'chronyc tracking'): tokens are checked without leeway, and overrides end by the clock")
}

func checkDatabaseClock(ctx context.Context, db *postgres.Store) finding {
	asked := time.Now()
	theirs, readOnly, err := db.Clock(ctx)
	answered := time.Now()
	switch {
	case err != nil:
		return found(databaseClockCheck, verdictFailed, "%v", err)
	case readOnly:
		return found(databaseCheck, verdictFailed, "this server only reads: it is a standby, or set to be read-only").try("give the URL of the primary")
	}
	return skewOf(theirs, 0, asked, answered).finding(databaseClockCheck, "the database's clock")
}

// checkServerClock goes by the Date of an answer, which is cut off to the second. It sends no token.
func checkServerClock(ctx context.Context, s *streams, f *clientFlags) finding {
	address := s.setting("api-url", f.apiURL, "OMNI_API_URL")
	if address.value == "" {
		return found(serverClockCheck, verdictSkipped, "neither OMNI_API_URL nor --api-url is given")
	}
	base, wrong := serverURL(address, true)
	if wrong != nil {
		return found(serverClockCheck, verdictFailed, "%v", wrong).try("%s", wrong.next)
	}
	certificate, err := f.certificate(s)
	if err != nil {
		return found(serverClockCheck, verdictFailed, "%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	asked := time.Now()
	header, err := livez(ctx, base, transportWith(certificate))
	answered := time.Now()
	if err != nil {
		return found(serverClockCheck, verdictFailed, "no answer from %s: %v", base.Host, err).
			try("is the server running? try: curl -fsS %s", shellWord(base.JoinPath("readyz").String()))
	}
	theirs, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return found(serverClockCheck, verdictSkipped, "the answer of %s has no Date", base.Host)
	}
	return skewOf(theirs, time.Second, asked, answered).finding(serverClockCheck, "the clock of "+base.Host)
}

func livez(ctx context.Context, base *url.URL, transport http.RoundTripper) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("livez").String(), nil)
	if err != nil {
		return nil, err
	}
	res, err := transport.RoundTrip(req) // follows no redirect: another server's clock is not ours
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxReadinessBytes)) // so that the connection can be used again
	return res.Header, nil
}

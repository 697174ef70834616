package gsm

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// Name is what metrics, audit events and the catalog call this backend.
const Name = "gsm"

// Config says how to reach Secret Manager and how long to wait for it. Zero durations mean the defaults.
type Config struct {
	// Endpoint, "host:port", is an emulator that serves every reference, without TLS and credentials. Empty is
	// the real Secret Manager.
	Endpoint string

	// AllowLatest permits the version "latest". Without it, such a Fetch fails with
	// domain.ReasonLatestForbidden and makes no call.
	AllowLatest bool

	AttemptTimeout time.Duration // of one call; 1.5 s
	Timeout        time.Duration // of a whole Fetch; 3 s
	BackoffMin     time.Duration // before the second attempt; 50 ms, doubling
	BackoffMax     time.Duration // before any later attempt; 400 ms
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.AttemptTimeout, 1500 * time.Millisecond},
		{&c.Timeout, 3 * time.Second},
		{&c.BackoffMin, 50 * time.Millisecond},
		{&c.BackoffMax, 400 * time.Millisecond},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c
}

// CheckEndpoint reports what is wrong with a Config.Endpoint that is not empty.
func CheckEndpoint(endpoint string) error {
	host, port, err := net.SplitHostPort(endpoint)
	if number, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || host == "" || number == 0 {
		return fmt.Errorf("endpoint %q must be host:port, such as 127.0.0.1:9085", endpoint)
	}
	return nil
}

// validate reports everything that is wrong at once. It expects the defaults to be in.
func (c Config) validate() error {
	var errs []error
	if c.Endpoint != "" {
		errs = append(errs, CheckEndpoint(c.Endpoint))
	}
	if min(c.AttemptTimeout, c.Timeout, c.BackoffMin, c.BackoffMax) < 0 {
		errs = append(errs, errors.New("timeouts and back-offs must not be negative"))
	}
	if c.BackoffMin > c.BackoffMax {
		errs = append(errs, fmt.Errorf("the first back-off of %s is longer than the longest of %s", c.BackoffMin, c.BackoffMax))
	}
	return errors.Join(errs...)
}

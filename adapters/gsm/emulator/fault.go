package emulator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Mode is a way in which the server misbehaves.
type Mode string

const (
	Unavailable       Mode = "unavailable"        // UNAVAILABLE
	Deny              Mode = "deny"               // PERMISSION_DENIED
	Unauthenticated   Mode = "unauthenticated"    // UNAUTHENTICATED
	Internal          Mode = "internal"           // INTERNAL
	ResourceExhausted Mode = "resource_exhausted" // RESOURCE_EXHAUSTED
	Delay             Mode = "delay"              // answers after Fault.Delay
	Hang              Mode = "hang"               // does not answer until the caller gives up
	Corrupt           Mode = "corrupt"            // flips a bit of accessed payloads; their CRC32C stays
)

// Modes lists every mode.
var Modes = []Mode{Unavailable, Deny, Unauthenticated, Internal, ResourceExhausted, Delay, Hang, Corrupt}

var refusals = map[Mode]error{
	Unavailable:       status.Error(codes.Unavailable, "The service is currently unavailable."),
	Deny:              status.Error(codes.PermissionDenied, "Permission 'secretmanager.versions.access' denied for resource (or it may not exist)."),
	Unauthenticated:   status.Error(codes.Unauthenticated, "Request had invalid authentication credentials."),
	Internal:          status.Error(codes.Internal, "Internal error encountered."),
	ResourceExhausted: status.Error(codes.ResourceExhausted, "Quota exceeded for quota metric 'Access requests'."),
}

// Fault makes the server misbehave until it is cleared. Several can be in force; delays add up, and of the
// others the first one set wins. Health checks and the control API are never affected.
type Fault struct {
	Mode   Mode
	Secret string        // full name or last part of it; "" is every call
	Rate   float64       // share of the calls that suffer, in (0, 1]; 0 is every call too
	Delay  time.Duration // for Mode Delay alone
}

func (f Fault) validate() error {
	switch {
	case !slices.Contains(Modes, f.Mode):
		return fmt.Errorf("mode %q is not known; choose one of %s", f.Mode, joinModes())
	case !(f.Rate >= 0 && f.Rate <= 1):
		return fmt.Errorf("rate %v must be above 0 and at most 1; leave it out for every call", f.Rate)
	case f.Mode == Delay && f.Delay <= 0:
		return fmt.Errorf("mode %q needs a positive delay; add delayMs", Delay)
	case f.Mode != Delay && f.Delay != 0:
		return fmt.Errorf("mode %q takes no delay; set a second fault with mode %q", f.Mode, Delay)
	}
	return nil
}

func joinModes() string {
	names := make([]string, len(Modes))
	for i, m := range Modes {
		names[i] = string(m)
	}
	return strings.Join(names, ", ")
}

func (f Fault) hits(secret string) bool {
	return f.Secret == "" || f.Secret == secret || secret != "" && f.Secret == shortID(secret)
}

// SetFault puts f in force. It replaces a fault with the same mode and secret.
func (s *Server) SetFault(f Fault) error {
	if err := f.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = slices.DeleteFunc(s.faults, func(old Fault) bool { return old.Mode == f.Mode && old.Secret == f.Secret })
	s.faults = append(s.faults, f)
	return nil
}

// ClearFaults ends all faults. Calls that hang go on hanging.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// drawFaults returns the faults that this call for secret suffers.
func (s *Server) drawFaults(secret string) []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var drawn []Fault
	for _, f := range s.faults {
		if f.hits(secret) && (f.Rate == 0 || rand.Float64() < f.Rate) { //nolint:gosec // a drill, not a secret
			drawn = append(drawn, f)
		}
	}
	return drawn
}

// suffer takes the time that the faults cost and returns the error that they make.
func suffer(ctx context.Context, faults []Fault) error {
	var delay time.Duration
	for _, f := range faults {
		delay += f.Delay
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-timer.C:
		}
	}
	for _, f := range faults {
		if f.Mode == Hang {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}
		if err := refusals[f.Mode]; err != nil {
			return err
		}
	}
	return nil
}

// corrupt flips the lowest bit of the first byte when one of the faults says so.
func corrupt(resp *secretmanagerpb.AccessSecretVersionResponse, faults []Fault) {
	data := resp.GetPayload().GetData()
	if len(data) > 0 && slices.ContainsFunc(faults, func(f Fault) bool { return f.Mode == Corrupt }) {
		data[0] ^= 1
	}
}

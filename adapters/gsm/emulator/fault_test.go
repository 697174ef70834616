package emulator_test

import (
	"context"
	"testing"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/apex-tradebill/omni-secrets/adapters/gsm/emulator"
)

func TestFaults(t *testing.T) {
	for mode, want := range map[emulator.Mode]codes.Code{
		emulator.Unavailable:       codes.Unavailable,
		emulator.Deny:              codes.PermissionDenied,
		emulator.Unauthenticated:   codes.Unauthenticated,
		emulator.Internal:          codes.Internal,
		emulator.ResourceExhausted: codes.ResourceExhausted,
		emulator.Hang:              codes.DeadlineExceeded,
		emulator.Corrupt:           codes.OK,
		emulator.Delay:             codes.OK,
	} {
		t.Run(string(mode), func(t *testing.T) {
			c := start(t)
			c.create(t, project, "api-key")
			c.add(t, secret, "value")
			c.create(t, project, "passphrase")
			c.add(t, project+"/secrets/passphrase", "other")
			f := emulator.Fault{Mode: mode, Secret: "api-key"}
			if mode == emulator.Delay {
				f.Delay = time.Millisecond
			}
			if err := c.server.SetFault(f); err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if mode == emulator.Hang {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			got, err := c.access(ctx, secret+"/versions/1")
			wantCode(t, err, want)
			if err == nil {
				damaged := checksum(got.GetPayload().GetData()) != got.GetPayload().GetDataCrc32C()
				if damaged != (mode == emulator.Corrupt) {
					t.Errorf("the payload is damaged: %t", damaged)
				}
			}
			must[*secretmanagerpb.AccessSecretVersionResponse](t)(c.access(t.Context(), project+"/secrets/passphrase/versions/1"))

			c.server.ClearFaults()
			got = must[*secretmanagerpb.AccessSecretVersionResponse](t)(c.access(t.Context(), secret+"/versions/1"))
			if string(got.GetPayload().GetData()) != "value" {
				t.Error("the damage stayed")
			}
		})
	}
}

func TestARateMakesSomeCallsFail(t *testing.T) {
	c := start(t)
	c.create(t, project, "api-key")
	c.add(t, secret, "value")
	if err := c.server.SetFault(emulator.Fault{Mode: emulator.Unavailable, Rate: 0.5}); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for range 100 { // all alike once in 2^99 runs
		if _, err := c.access(t.Context(), secret+"/versions/1"); err != nil {
			failed++
		}
	}
	if failed == 0 || failed == 100 {
		t.Errorf("%d of 100 calls failed", failed)
	}
}

func TestCallsAreCounted(t *testing.T) {
	c := start(t)
	c.create(t, project, "api-key")
	c.add(t, secret, "value")
	for range 3 {
		must[*secretmanagerpb.AccessSecretVersionResponse](t)(c.access(t.Context(), secret+"/versions/1"))
	}
	_, _ = c.access(t.Context(), secret+"/versions/2")
	want := map[string]int{"CreateSecret": 1, "AddSecretVersion": 1, "AccessSecretVersion": 4}
	if diff := cmp.Diff(want, c.server.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if n := c.server.State().Secrets[0].Versions[0].Accesses; n != 3 {
		t.Errorf("%d accesses of the version, want 3", n)
	}
}

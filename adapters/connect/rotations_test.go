package connect_test

import (
	"testing"
	"time"

	rpc "connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

func TestRotation(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		f.backend.Set("key", "key-2")
		client := f.ops(p, tokenOps)
		preview := func(version string) (*secretsv1.PreviewRotationResponse, error) {
			return client.PreviewRotation(t.Context(), &secretsv1.PreviewRotationRequest{SecretType: apiKey, GcpSecretVersion: version})
		}
		begin := &secretsv1.BeginRotationRequest{SecretType: apiKey, GcpSecretVersion: "2"}
		promote := &secretsv1.PromoteRotationRequest{SecretType: apiKey}
		abort := &secretsv1.AbortRotationRequest{SecretType: apiKey}

		good, err := preview("2")
		if err != nil || !good.GetValidated() || good.GetVersion() != "2" || good.GetLatency() == nil || good.ErrorCode != nil || good.Message != nil {
			t.Fatalf("preview of a good version: %v, %v", good, err)
		}
		bad, err := preview("9")
		if err != nil || bad.GetValidated() || bad.GetErrorCode() != "VERSION_UNREADABLE" || bad.GetMessage() == "" {
			t.Fatalf("preview of no version: %v, %v", bad, err)
		}

		begun, err := client.BeginRotation(t.Context(), begin)
		if s := begun.GetSecret(); err != nil || s.GetStatus() != "rotating" || s.GetRotatingToVersion() != "2" || s.GetRotatingBy() != "subject-ops" ||
			s.GetRotatingSince() == nil || s.GetPinnedVersion() != "1" || s.GetCacheVersion() != "1" {
			t.Fatalf("begin: %v, %v", begun, err)
		}
		_, err = client.BeginRotation(t.Context(), begin)
		wantFailure(t, err, rpc.CodeFailedPrecondition, domain.CodeRotationInProgress)
		aborted, err := client.AbortRotation(t.Context(), abort)
		if s := aborted.GetSecret(); err != nil || s.GetStatus() != "active" || s.RotatingToVersion != nil || s.RotatingSince != nil || s.RotatingBy != nil {
			t.Fatalf("abort: %v, %v", aborted, err)
		}
		_, err = client.AbortRotation(t.Context(), abort)
		wantFailure(t, err, rpc.CodeFailedPrecondition, domain.CodeNoRotation)

		if _, err := client.BeginRotation(t.Context(), begin); err != nil {
			t.Fatal(err)
		}
		promoted, err := client.PromoteRotation(t.Context(), promote)
		if s := promoted.GetSecret(); err != nil || s.GetStatus() != "active" || s.GetCacheVersion() != "2" || s.GetPinnedVersion() != "2" || s.GetLastRotatedAt() == nil {
			t.Fatalf("promote: %v, %v", promoted, err)
		}
		_, err = client.PromoteRotation(t.Context(), promote)
		wantFailure(t, err, rpc.CodeFailedPrecondition, domain.CodeNoRotation)
		_, err = client.BeginRotation(t.Context(), begin)
		wantFailure(t, err, rpc.CodeFailedPrecondition, domain.CodeVersionRejected)

		f.backend.Set("key", "key-3")
		f.backend.Fail("key", domain.ReasonUnavailable)
		_, err = client.BeginRotation(t.Context(), &secretsv1.BeginRotationRequest{SecretType: apiKey, GcpSecretVersion: "3"})
		if info := wantFailure(t, err, rpc.CodeUnavailable, domain.CodeVersionUnavailable); info.GetRetryAfterSeconds() == 0 {
			t.Errorf("ErrorInfo: %v", info)
		}
	})
}

func TestRotationMadeElsewhere(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		at := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
		r, err := f.ops(p, tokenOps).RecordRotation(t.Context(), &secretsv1.RecordRotationRequest{SecretType: apiKey, RotatedAt: timestamppb.New(at)})
		if s := r.GetSecret(); err != nil || !s.GetLastRotatedAt().AsTime().Equal(at) || !s.GetRotationDueAt().AsTime().Equal(domain.RotationDue(at, 12)) {
			t.Errorf("%v, %v", r, err)
		}
	})
}

func TestRotationMadeElsewhereJustNow(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		before := time.Now().Truncate(time.Microsecond)
		r, err := f.ops(p, tokenOps).RecordRotation(t.Context(), &secretsv1.RecordRotationRequest{SecretType: apiKey})
		if at := r.GetSecret().GetLastRotatedAt().AsTime(); err != nil || at.Before(before) || at.After(time.Now()) {
			t.Errorf("%v, %v", r, err)
		}
	})
}

func TestFollowUps(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		f.apply("emergency", time.Minute)
		client := f.ops(p, tokenOps)
		list, err := client.ListFollowUps(t.Context(), &secretsv1.ListFollowUpsRequest{})
		if err != nil || len(list.GetFollowUps()) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		one := list.GetFollowUps()[0]
		if one.GetSecretType() != apiKey || one.GetAppliedBy() != "sre" || one.GetReason() != "drill" || one.GetOpenedAt() == nil || one.GetOverdue() {
			t.Errorf("follow-up: %v", one)
		}
		status, err := client.GetStatus(t.Context(), &secretsv1.GetStatusRequest{})
		if s := status.GetSecrets()[0]; err != nil || s.GetOpenFollowUps() != 1 || !s.GetFollowUpOpenedAt().AsTime().Equal(one.GetOpenedAt().AsTime()) {
			t.Errorf("status: %v, %v", s, err)
		}
		closing := &secretsv1.CloseFollowUpRequest{OverrideId: one.GetOverrideId(), Reason: "a drill with a made-up value"}
		if _, err := client.CloseFollowUp(t.Context(), closing); err != nil {
			t.Fatal(err)
		}
		_, err = client.CloseFollowUp(t.Context(), closing)
		wantFailure(t, err, rpc.CodeNotFound, domain.CodeNoFollowUp)
	})
}

func TestRefusedRotations(t *testing.T) {
	f := newFixture(t)
	ops, reader := f.ops(protocols[0], tokenOps), f.ops(protocols[0], tokenRead)
	ctx := t.Context()
	for name, c := range map[string]struct {
		call func() error
		code rpc.Code
		info domain.Code
	}{
		"a service rotates": {func() error {
			_, err := reader.BeginRotation(ctx, &secretsv1.BeginRotationRequest{})
			return err
		}, rpc.CodePermissionDenied, domain.CodeForbidden},
		"a service records a rotation": {func() error {
			_, err := reader.RecordRotation(ctx, &secretsv1.RecordRotationRequest{})
			return err
		}, rpc.CodePermissionDenied, domain.CodeForbidden},
		"a service lists follow-ups": {func() error {
			_, err := reader.ListFollowUps(ctx, &secretsv1.ListFollowUpsRequest{})
			return err
		}, rpc.CodePermissionDenied, domain.CodeForbidden},
		"a service closes a follow-up": {func() error {
			_, err := reader.CloseFollowUp(ctx, &secretsv1.CloseFollowUpRequest{})
			return err
		}, rpc.CodePermissionDenied, domain.CodeForbidden},
		"an alias": {func() error {
			_, err := ops.BeginRotation(ctx, &secretsv1.BeginRotationRequest{SecretType: apiKey, GcpSecretVersion: "latest"})
			return err
		}, rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
		"an unknown type": {func() error {
			_, err := ops.PromoteRotation(ctx, &secretsv1.PromoteRotationRequest{SecretType: "nothing"})
			return err
		}, rpc.CodeNotFound, domain.CodeUnknownSecretType},
		"a time that would stand for now": {func() error {
			_, err := ops.RecordRotation(ctx, &secretsv1.RecordRotationRequest{SecretType: apiKey, RotatedAt: timestamppb.New(time.Time{})})
			return err
		}, rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
		"a time that no calendar has": {func() error {
			_, err := ops.RecordRotation(ctx, &secretsv1.RecordRotationRequest{SecretType: apiKey, RotatedAt: &timestamppb.Timestamp{Seconds: 1 << 60}})
			return err
		}, rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
		"no reason": {func() error {
			_, err := ops.CloseFollowUp(ctx, &secretsv1.CloseFollowUpRequest{OverrideId: "bg-1"})
			return err
		}, rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
		"an override that nobody applied": {func() error {
			_, err := ops.CloseFollowUp(ctx, &secretsv1.CloseFollowUpRequest{OverrideId: "bg-1", Reason: "x"})
			return err
		}, rpc.CodeNotFound, domain.CodeNoFollowUp},
	} {
		t.Run(name, func(t *testing.T) { wantFailure(t, c.call(), c.code, c.info) })
	}
}

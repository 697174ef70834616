package connect

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/service"
)

type ops struct{ *api }

var _ secretsv1connect.OpsServiceHandler = ops{}

func (o ops) GetStatus(ctx context.Context, _ *secretsv1.GetStatusRequest) (*secretsv1.GetStatusResponse, error) {
	all, err := o.Service.Status(ctx, callOf(ctx))
	if err != nil {
		return nil, err
	}
	response := &secretsv1.GetStatusResponse{UpdatedAt: timestamppb.Now()}
	for _, s := range all {
		response.Secrets = append(response.Secrets, statusOf(s))
	}
	return response, nil
}

func statusOf(s service.SecretStatus) *secretsv1.SecretStatus {
	row := &secretsv1.SecretStatus{
		SecretType: string(s.Type), Status: string(s.Status), Owner: s.Owner,
		GcpSecretId: s.GCPSecretID, GcpVersionAlias: s.GCPVersionAlias,
		CacheSource: s.Source, Stale: s.Stale,
		RotationDueAt: instant(s.RotationDueAt), RotationState: string(s.Rotation),
		LastRotatedAt: instant(s.LastRotatedAt), LastValidatedAt: instant(s.LastValidatedAt),
		BreakGlassExpiresAt: instant(s.OverrideExpiresAt), ConsecutiveFailures: uint32(s.Failures), //nolint:gosec // a count
		LastFailureReason: optional(string(s.LastFailure)),
		SurvivalSeconds:   s.Survival.Truncate(time.Millisecond).Seconds(),
		RotatingToVersion: optional(s.InProgress.To), RotatingSince: instant(s.InProgress.BegunAt),
		RotatingBy: optional(s.InProgress.BegunBy.ID), PinnedVersion: optional(s.PinnedVersion),
		OpenFollowUps: uint32(s.FollowUps), FollowUpOpenedAt: instant(s.FollowUpOpenedAt), //nolint:gosec // a count
	}
	if s.Source != domain.SourceEmpty {
		age := s.Age.Truncate(time.Millisecond).Seconds()
		row.CacheVersion, row.CacheAgeSeconds = &s.Version, &age
	}
	return row
}

func (o ops) ApplyBreakGlass(ctx context.Context, r *secretsv1.ApplyBreakGlassRequest) (*secretsv1.ApplyBreakGlassResponse, error) {
	override, err := o.Service.ApplyOverride(ctx, callOf(ctx), domain.Envelope{
		Type: domain.SecretType(r.GetSecretType()), Ciphertext: r.GetCiphertext(), ExpiresAt: r.GetExpiresAt(),
	}, r.GetReason())
	if err != nil {
		return nil, err
	}
	return &secretsv1.ApplyBreakGlassResponse{
		SecretType: string(override.Envelope.Type), ExpiresAt: override.Envelope.ExpiresAt,
	}, nil
}

func (o ops) ClearBreakGlass(ctx context.Context, r *secretsv1.ClearBreakGlassRequest) (*secretsv1.ClearBreakGlassResponse, error) {
	if err := o.Service.ClearOverride(ctx, callOf(ctx), domain.SecretType(r.GetSecretType())); err != nil {
		return nil, err
	}
	return &secretsv1.ClearBreakGlassResponse{}, nil
}

func (o ops) ListAuditEvents(ctx context.Context, r *secretsv1.ListAuditEventsRequest) (*secretsv1.ListAuditEventsResponse, error) {
	filter := domain.EventFilter{
		Type: domain.SecretType(r.GetSecretType()), Action: domain.Action(r.GetAction()), ActorID: r.GetActorId(),
		Result: domain.Result(r.GetResult()), Limit: int(r.GetLimit()),
	}
	for _, bound := range []struct {
		name string
		from *timestamppb.Timestamp
		into *time.Time
	}{{"since", r.GetSince(), &filter.Since}, {"until", r.GetUntil(), &filter.Until}} {
		if bound.from == nil {
			continue
		}
		at, err := timeOf(bound.name, bound.from)
		if err != nil {
			return nil, err
		}
		*bound.into = at
	}
	if r.GetCursor() != "" {
		var err error
		if filter.Before, err = domain.ParseCursor(r.GetCursor()); err != nil {
			return nil, err
		}
	}
	page, err := o.Service.ListEvents(ctx, callOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	response := &secretsv1.ListAuditEventsResponse{NextCursor: page.Cursor()}
	for _, e := range page.Events {
		response.Events = append(response.Events, &secretsv1.AuditEvent{
			EventId: e.ID.String(), SecretType: optional(string(e.Type)), Action: string(e.Action),
			ActorType: string(e.Actor.Type), ActorId: e.Actor.ID, Result: string(e.Result), ErrorCode: optional(e.ErrorCode),
			GcpSecretVersion: optional(e.Version), Source: optional(e.Source), Duration: durationpb.New(e.Duration),
			RequestId: optional(e.RequestID), ReplicaId: e.ReplicaID, Reason: optional(e.Reason),
			RecordedAt: timestamppb.New(e.RecordedAt),
		})
	}
	return response, nil
}

// instant is absent for the zero time.
func instant(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

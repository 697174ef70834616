package connect

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

func (o ops) PreviewRotation(ctx context.Context, r *secretsv1.PreviewRotationRequest) (*secretsv1.PreviewRotationResponse, error) {
	found, err := o.Service.PreviewRotation(ctx, callOf(ctx), domain.SecretType(r.GetSecretType()), r.GetGcpSecretVersion(), r.GetDryRunWebhookUrl())
	if err != nil {
		return nil, err
	}
	response := &secretsv1.PreviewRotationResponse{
		Validated: found.Failed == nil, Latency: durationpb.New(found.Took), Version: found.Version,
	}
	if found.Failed != nil {
		response.ErrorCode, response.Message = optional(string(found.Failed.Code)), optional(found.Failed.Message)
	}
	return response, nil
}

func (o ops) BeginRotation(ctx context.Context, r *secretsv1.BeginRotationRequest) (*secretsv1.BeginRotationResponse, error) {
	after, err := o.Service.BeginRotation(ctx, callOf(ctx), domain.SecretType(r.GetSecretType()), r.GetGcpSecretVersion())
	if err != nil {
		return nil, err
	}
	return &secretsv1.BeginRotationResponse{Secret: statusOf(after)}, nil
}

func (o ops) PromoteRotation(ctx context.Context, r *secretsv1.PromoteRotationRequest) (*secretsv1.PromoteRotationResponse, error) {
	after, err := o.Service.PromoteRotation(ctx, callOf(ctx), domain.SecretType(r.GetSecretType()))
	if err != nil {
		return nil, err
	}
	return &secretsv1.PromoteRotationResponse{Secret: statusOf(after)}, nil
}

func (o ops) AbortRotation(ctx context.Context, r *secretsv1.AbortRotationRequest) (*secretsv1.AbortRotationResponse, error) {
	after, err := o.Service.AbortRotation(ctx, callOf(ctx), domain.SecretType(r.GetSecretType()))
	if err != nil {
		return nil, err
	}
	return &secretsv1.AbortRotationResponse{Secret: statusOf(after)}, nil
}

func (o ops) RecordRotation(ctx context.Context, r *secretsv1.RecordRotationRequest) (*secretsv1.RecordRotationResponse, error) {
	var at time.Time // now
	if r.GetRotatedAt() != nil {
		var err error
		if at, err = timeOf("rotated_at", r.GetRotatedAt()); err != nil {
			return nil, err
		}
		if at.IsZero() {
			return nil, &domain.Error{Code: domain.CodeInvalidRequest, Message: "rotated_at is in the year 1; leave it out for now"}
		}
	}
	after, err := o.Service.RecordRotation(ctx, callOf(ctx), domain.SecretType(r.GetSecretType()), at)
	if err != nil {
		return nil, err
	}
	return &secretsv1.RecordRotationResponse{Secret: statusOf(after)}, nil
}

func (o ops) ListFollowUps(ctx context.Context, _ *secretsv1.ListFollowUpsRequest) (*secretsv1.ListFollowUpsResponse, error) {
	open, err := o.Service.OpenFollowUps(ctx, callOf(ctx))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	response := new(secretsv1.ListFollowUpsResponse)
	for _, f := range open {
		response.FollowUps = append(response.FollowUps, &secretsv1.FollowUp{
			OverrideId: f.OverrideID, SecretType: string(f.Type), OpenedAt: timestamppb.New(f.OpenedAt),
			AppliedBy: f.AppliedBy.ID, Reason: optional(f.Reason), Overdue: f.LateAt(now),
		})
	}
	return response, nil
}

func (o ops) CloseFollowUp(ctx context.Context, r *secretsv1.CloseFollowUpRequest) (*secretsv1.CloseFollowUpResponse, error) {
	if err := o.Service.CloseFollowUp(ctx, callOf(ctx), r.GetOverrideId(), r.GetReason()); err != nil {
		return nil, err
	}
	return &secretsv1.CloseFollowUpResponse{}, nil
}

// timeOf is the time of a field that is set. Protobuf can say what no calendar can.
func timeOf(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t.CheckValid() != nil {
		return time.Time{}, &domain.Error{Code: domain.CodeInvalidRequest, Message: field + " is no time between the years 1 and 9999"}
	}
	return t.AsTime(), nil
}

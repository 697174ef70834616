package connect

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/service"
)

type secrets struct{ *api }

var _ secretsv1connect.SecretsServiceHandler = secrets{}

func (s secrets) GetSecret(ctx context.Context, r *secretsv1.GetSecretRequest) (*secretsv1.GetSecretResponse, error) {
	served, err := s.Service.Read(ctx, callOf(ctx), domain.SecretType(r.GetSecretType()))
	if err != nil {
		return nil, err
	}
	return &secretsv1.GetSecretResponse{Secret: secretOf(served)}, nil
}

func secretOf(s domain.Served) *secretsv1.Secret {
	return &secretsv1.Secret{
		SecretType: string(s.Type), Value: s.Value.Reveal(), Version: s.Version, Source: s.Source, Stale: s.Stale,
		FetchedAt: timestamppb.New(s.FetchedAt), ExpiresAt: timestamppb.New(s.ExpiresAt), ServedAt: timestamppb.New(time.Now()),
	}
}

func (s secrets) WatchSecrets(
	ctx context.Context, r *secretsv1.WatchSecretsRequest, stream *connect.ServerStream[secretsv1.WatchSecretsResponse],
) error {
	types := make([]domain.SecretType, 0, len(r.GetSecretTypes()))
	for _, t := range r.GetSecretTypes() {
		types = append(types, domain.SecretType(t))
	}
	watch, err := s.Service.Watch(ctx, callOf(ctx), types)
	if err != nil {
		return err
	}
	keepOpen(ctx)

	keepAlive := &secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_KeepAlive{
		KeepAlive: &secretsv1.KeepAlive{IntervalSeconds: uint32(max(1, s.KeepAlive/time.Second))}, //nolint:gosec // a count of seconds
	}}
	var within time.Duration // the first keep-alive follows the first states at once
	for {
		update, news, err := watch.Next(ctx, within)
		if err != nil {
			return err
		}
		message := keepAlive
		if news {
			message = eventOf(update)
		} else {
			within = s.KeepAlive
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}

func eventOf(u service.Update) *secretsv1.WatchSecretsResponse {
	if u.Available() {
		return &secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_Secret{Secret: secretOf(u.Served)}}
	}
	return &secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_Unavailable{
		Unavailable: &secretsv1.SecretUnavailable{SecretType: string(u.Type), Reason: string(u.Reason), Withdrawn: u.Withdrawn},
	}}
}

func (s secrets) RefreshCache(ctx context.Context, r *secretsv1.RefreshCacheRequest) (*secretsv1.RefreshCacheResponse, error) {
	call := callOf(ctx)
	done, err := s.Service.Refresh(ctx, call, domain.SecretType(r.GetSecretType()))
	if err != nil {
		return nil, &refreshFailedError{err, done.Failures}
	}
	response := &secretsv1.RefreshCacheResponse{RequestId: call.RequestID, Failures: failuresOf(done.Failures)}
	for _, t := range done.Types {
		response.RefreshedSecretTypes = append(response.RefreshedSecretTypes, string(t))
	}
	return response, nil
}

func failuresOf(failures []service.RefreshFailure) []*secretsv1.RefreshFailure {
	list := make([]*secretsv1.RefreshFailure, 0, len(failures))
	for _, f := range failures {
		list = append(list, &secretsv1.RefreshFailure{SecretType: string(f.Type), Reason: string(f.Reason)})
	}
	return list
}

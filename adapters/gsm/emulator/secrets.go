package emulator

import (
	"context"
	"maps"
	"slices"
	"strings"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

func (g *service) CreateSecret(_ context.Context, req *secretmanagerpb.CreateSecretRequest) (*secretmanagerpb.Secret, error) {
	if err := checkParent(req.GetParent()); err != nil {
		return nil, err
	}
	if !secretIDPattern.MatchString(req.GetSecretId()) {
		return nil, status.Errorf(codes.InvalidArgument,
			"The secret_id %q must be 1 to 255 letters, digits, - and _.", req.GetSecretId())
	}
	name := req.GetParent() + "/secrets/" + req.GetSecretId()
	if err := checkNew(name, req.GetSecret()); err != nil {
		return nil, err
	}
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	made, err := g.server.create(name, req.GetSecret())
	if err != nil {
		return nil, err
	}
	return proto.CloneOf(made.resource), nil
}

func (g *service) GetSecret(_ context.Context, req *secretmanagerpb.GetSecretRequest) (*secretmanagerpb.Secret, error) {
	if err := checkSecretName(req.GetName()); err != nil {
		return nil, err
	}
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	found, err := g.server.find(req.GetName())
	if err != nil {
		return nil, err
	}
	return proto.CloneOf(found.resource), nil
}

// ListSecrets lists the secrets of a project or of one location of it, by name.
func (g *service) ListSecrets(_ context.Context, req *secretmanagerpb.ListSecretsRequest) (*secretmanagerpb.ListSecretsResponse, error) {
	if err := checkParent(req.GetParent()); err != nil {
		return nil, err
	}
	if req.GetFilter() != "" {
		return nil, status.Error(codes.Unimplemented, "The emulator does not support filters; list without one.")
	}
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	prefix := req.GetParent() + "/secrets/"
	var names []string
	for _, name := range slices.Sorted(maps.Keys(g.server.secrets)) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	page, next, err := paginate(names, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &secretmanagerpb.ListSecretsResponse{NextPageToken: next, TotalSize: int32(len(names))} //nolint:gosec // memory ends before
	for _, name := range page {
		resp.Secrets = append(resp.Secrets, proto.CloneOf(g.server.secrets[name].resource))
	}
	return resp, nil
}

func (g *service) UpdateSecret(_ context.Context, req *secretmanagerpb.UpdateSecretRequest) (*secretmanagerpb.Secret, error) {
	name := req.GetSecret().GetName()
	if err := checkSecretName(name); err != nil {
		return nil, err
	}
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	found, err := g.server.find(name)
	if err != nil {
		return nil, err
	}
	if err := checkEtag(req.GetSecret().GetEtag(), found.resource.GetEtag(), name); err != nil {
		return nil, err
	}
	if err := g.server.update(found, req.GetSecret(), req.GetUpdateMask().GetPaths()); err != nil {
		return nil, err
	}
	return proto.CloneOf(found.resource), nil
}

func (g *service) DeleteSecret(_ context.Context, req *secretmanagerpb.DeleteSecretRequest) (*emptypb.Empty, error) {
	if err := checkSecretName(req.GetName()); err != nil {
		return nil, err
	}
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	found, err := g.server.find(req.GetName())
	if err != nil {
		return nil, err
	}
	if err := checkEtag(req.GetEtag(), found.resource.GetEtag(), req.GetName()); err != nil {
		return nil, err
	}
	delete(g.server.secrets, req.GetName())
	return &emptypb.Empty{}, nil
}

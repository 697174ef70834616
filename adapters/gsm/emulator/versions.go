package emulator

import (
	"context"
	"slices"
	"strconv"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (g *service) AddSecretVersion(_ context.Context, req *secretmanagerpb.AddSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	if err := checkSecretName(req.GetParent()); err != nil {
		return nil, err
	}
	if err := checkPayload(req.GetPayload()); err != nil {
		return nil, err
	}
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	found, err := g.server.find(req.GetParent())
	if err != nil {
		return nil, err
	}
	data := slices.Clone(req.GetPayload().GetData())
	return g.server.add(found, data, req.GetPayload().DataCrc32C != nil).proto(), nil
}

func checkPayload(p *secretmanagerpb.SecretPayload) error {
	switch n := len(p.GetData()); {
	case n == 0:
		return status.Error(codes.InvalidArgument, "Secret Payload cannot be empty.")
	case n > MaxPayloadBytes:
		return status.Errorf(codes.InvalidArgument, "The payload has %d bytes, more than the maximum of %d.", n, MaxPayloadBytes)
	case p.DataCrc32C != nil && p.GetDataCrc32C() != checksum(p.GetData()):
		return status.Error(codes.InvalidArgument, "The payload does not have the CRC32C that was given in data_crc32c.")
	}
	return nil
}

func (g *service) AccessSecretVersion(_ context.Context, req *secretmanagerpb.AccessSecretVersionRequest) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	v, err := g.server.findVersion(req.GetName())
	if err != nil {
		return nil, err
	}
	if v.state != secretmanagerpb.SecretVersion_ENABLED {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in %s state.", v.name, v.state)
	}
	v.accesses++
	return &secretmanagerpb.AccessSecretVersionResponse{
		Name: v.name,
		Payload: &secretmanagerpb.SecretPayload{
			Data:       slices.Clone(v.payload),
			DataCrc32C: new(v.crc32c),
		},
	}, nil
}

func (g *service) GetSecretVersion(_ context.Context, req *secretmanagerpb.GetSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	v, err := g.server.findVersion(req.GetName())
	if err != nil {
		return nil, err
	}
	return v.proto(), nil
}

// ListSecretVersions lists the versions of a secret, the newest first.
func (g *service) ListSecretVersions(_ context.Context, req *secretmanagerpb.ListSecretVersionsRequest) (*secretmanagerpb.ListSecretVersionsResponse, error) {
	if err := checkSecretName(req.GetParent()); err != nil {
		return nil, err
	}
	if req.GetFilter() != "" {
		return nil, status.Error(codes.Unimplemented, "The emulator does not support filters; list without one.")
	}
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	found, err := g.server.find(req.GetParent())
	if err != nil {
		return nil, err
	}
	var numbers []string
	for i := len(found.versions); i >= 1; i-- {
		numbers = append(numbers, strconv.Itoa(i))
	}
	page, next, err := paginate(numbers, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &secretmanagerpb.ListSecretVersionsResponse{NextPageToken: next, TotalSize: int32(len(numbers))} //nolint:gosec // memory ends before
	for _, number := range page {
		v, err := found.resolve(number)
		if err != nil {
			return nil, err
		}
		resp.Versions = append(resp.Versions, v.proto())
	}
	return resp, nil
}

func (g *service) EnableSecretVersion(_ context.Context, req *secretmanagerpb.EnableSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	return g.server.changeState(req.GetName(), req.GetEtag(), secretmanagerpb.SecretVersion_ENABLED)
}

func (g *service) DisableSecretVersion(_ context.Context, req *secretmanagerpb.DisableSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	return g.server.changeState(req.GetName(), req.GetEtag(), secretmanagerpb.SecretVersion_DISABLED)
}

func (g *service) DestroySecretVersion(_ context.Context, req *secretmanagerpb.DestroySecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	return g.server.changeState(req.GetName(), req.GetEtag(), secretmanagerpb.SecretVersion_DESTROYED)
}

// changeState changes a version that is given by its number: the API takes aliases for reading alone.
func (s *Server) changeState(name, etag string, state secretmanagerpb.SecretVersion_State) (*secretmanagerpb.SecretVersion, error) {
	_, id, err := splitVersionName(name)
	if err != nil {
		return nil, err
	}
	if _, err := strconv.Atoi(id); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "The name %q must end in the number of a version, not in an alias.", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.findVersion(name)
	if err != nil {
		return nil, err
	}
	if err := checkEtag(etag, v.etag, v.name); err != nil {
		return nil, err
	}
	if err := s.setState(v, state); err != nil {
		return nil, err
	}
	return v.proto(), nil
}

// findVersion finds a version by its full name, alias or latest. It must be called with mu held.
func (s *Server) findVersion(name string) (*version, error) {
	secret, id, err := splitVersionName(name)
	if err != nil {
		return nil, err
	}
	found, err := s.find(secret)
	if err != nil {
		return nil, err
	}
	return found.resolve(id)
}

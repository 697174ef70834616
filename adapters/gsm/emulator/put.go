package emulator

import (
	"slices"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Put adds a version with this payload to the secret of that full name, which it creates if need be, by the
// rules of the API. It returns the number of the version; an error has the gRPC status that the API would give.
func (s *Server) Put(secret string, payload []byte) (number int, err error) {
	if err := checkPayload(&secretmanagerpb.SecretPayload{Data: payload}); err != nil {
		return 0, err
	}
	return s.Plant(secret, payload)
}

// Plant is Put without the rules for payloads: it can plant empty and oversized ones, to see how a client
// bears them.
func (s *Server) Plant(secret string, payload []byte) (number int, err error) {
	if err := checkSecretName(secret); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	to, ok := s.secrets[secret]
	if !ok {
		if to, err = s.create(secret, blank(secret)); err != nil {
			return 0, err
		}
	}
	s.add(to, slices.Clone(payload), false)
	return len(to.versions), nil
}

// blank is a secret as it is created when nothing is said of it.
func blank(name string) *secretmanagerpb.Secret {
	if regional(name) {
		return &secretmanagerpb.Secret{}
	}
	return &secretmanagerpb.Secret{Replication: &secretmanagerpb.Replication{
		Replication: &secretmanagerpb.Replication_Automatic_{Automatic: &secretmanagerpb.Replication_Automatic{}},
	}}
}

// Enable makes a version, given by its full name, readable again.
func (s *Server) Enable(version string) error {
	_, err := s.changeState(version, "", secretmanagerpb.SecretVersion_ENABLED)
	return err
}

// Disable makes a version, given by its full name, unreadable until it is enabled.
func (s *Server) Disable(version string) error {
	_, err := s.changeState(version, "", secretmanagerpb.SecretVersion_DISABLED)
	return err
}

// Destroy takes away the payload of a version, given by its full name, for good.
func (s *Server) Destroy(version string) error {
	_, err := s.changeState(version, "", secretmanagerpb.SecretVersion_DESTROYED)
	return err
}

// Delete deletes the secret of that full name with all its versions.
func (s *Server) Delete(secret string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.find(secret); err != nil {
		return err
	}
	delete(s.secrets, secret)
	return nil
}

// SetAlias points an alias of the secret of that full name to a version; number 0 takes the alias away.
func (s *Server) SetAlias(secret, alias string, number int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, err := s.find(secret)
	if err != nil {
		return err
	}
	aliases := proto.CloneOf(of.resource).GetVersionAliases()
	if aliases == nil {
		aliases = make(map[string]int64)
	}
	if number == 0 {
		if _, ok := aliases[alias]; !ok {
			return status.Errorf(codes.NotFound, "Secret [%s] has no alias [%s].", secret, alias)
		}
		delete(aliases, alias)
	} else {
		aliases[alias] = int64(number)
	}
	return s.update(of, &secretmanagerpb.Secret{VersionAliases: aliases}, []string{"version_aliases"})
}

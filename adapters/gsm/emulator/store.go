package emulator

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// MaxPayloadBytes is the largest payload that a version may have
// (https://cloud.google.com/secret-manager/quotas).
const MaxPayloadBytes = 64 << 10

const latest = "latest"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(payload []byte) int64 { return int64(crc32.Checksum(payload, castagnoli)) }

// secret is one secret with its versions. Version n is versions[n-1]; none is ever taken out.
type secret struct {
	resource *secretmanagerpb.Secret // with its aliases
	versions []*version
}

type version struct {
	name        string
	created     time.Time
	destroyed   time.Time // zero until then
	state       secretmanagerpb.SecretVersion_State
	etag        string
	payload     []byte // nil once destroyed
	crc32c      int64
	crcByClient bool
	accesses    int
}

// The functions below must be called with Server.mu held.

// nextEtag is a new etag. Its quotes are part of it (https://google.aip.dev/154).
func (s *Server) nextEtag() string {
	s.etags++
	return fmt.Sprintf(`"%x"`, s.etags)
}

func (s *Server) find(name string) (*secret, error) {
	found, ok := s.secrets[name]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "Secret [%s] not found.", name)
	}
	return found, nil
}

func (s *Server) create(name string, from *secretmanagerpb.Secret) (*secret, error) {
	if _, ok := s.secrets[name]; ok {
		return nil, status.Errorf(codes.AlreadyExists, "Secret [%s] already exists.", name)
	}
	resource := proto.CloneOf(from)
	resource.Name = name
	resource.CreateTime = timestamppb.New(now())
	resource.Etag = s.nextEtag()
	made := &secret{resource: resource}
	s.secrets[name] = made
	return made, nil
}

// add appends a version with a payload that is its own.
func (s *Server) add(to *secret, payload []byte, crcByClient bool) *version {
	v := &version{
		name:        versionName(to.resource.GetName(), len(to.versions)+1),
		created:     now(),
		state:       secretmanagerpb.SecretVersion_ENABLED,
		etag:        s.nextEtag(),
		payload:     payload,
		crc32c:      checksum(payload),
		crcByClient: crcByClient,
	}
	to.versions = append(to.versions, v)
	return v
}

// resolve finds a version by its number, an alias or "latest", the one created last.
func (s *secret) resolve(id string) (*version, error) {
	name := s.resource.GetName()
	number, err := strconv.Atoi(id)
	switch {
	case err == nil:
	case id == latest:
		if number = len(s.versions); number == 0 {
			return nil, status.Errorf(codes.NotFound, "Secret [%s] not found or has no versions.", name)
		}
	default:
		alias, ok := s.resource.GetVersionAliases()[id]
		if !ok {
			return nil, status.Errorf(codes.NotFound, "Secret Version Alias [%s/versions/%s] not found.", name, id)
		}
		number = int(alias)
	}
	if number < 1 || number > len(s.versions) {
		return nil, status.Errorf(codes.NotFound, "Secret Version [%s/versions/%s] not found.", name, id)
	}
	return s.versions[number-1], nil
}

// setState moves v to state, as the diagram of the package has it. A version that is in that state already gets
// a new etag all the same (https://cloud.google.com/secret-manager/docs/etags).
func (s *Server) setState(v *version, state secretmanagerpb.SecretVersion_State) error {
	if v.state == secretmanagerpb.SecretVersion_DESTROYED {
		return status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in %s state.", v.name, v.state)
	}
	v.state = state
	v.etag = s.nextEtag()
	if state == secretmanagerpb.SecretVersion_DESTROYED {
		clear(v.payload)
		v.payload = nil
		v.destroyed = now()
	}
	return nil
}

// checkEtag compares the etag of a request with the current one. A request may leave it out.
func checkEtag(given, current, name string) error {
	if given != "" && given != current {
		return status.Errorf(codes.FailedPrecondition,
			"The etag %s given for [%s] does not match the current etag; get the resource and try again.", given, name)
	}
	return nil
}

func (v *version) proto() *secretmanagerpb.SecretVersion {
	p := &secretmanagerpb.SecretVersion{
		Name:                           v.name,
		CreateTime:                     timestamppb.New(v.created),
		State:                          v.state,
		Etag:                           v.etag,
		ClientSpecifiedPayloadChecksum: v.crcByClient,
		ReplicationStatus: &secretmanagerpb.ReplicationStatus{
			ReplicationStatus: &secretmanagerpb.ReplicationStatus_Automatic{
				Automatic: &secretmanagerpb.ReplicationStatus_AutomaticStatus{},
			},
		},
	}
	if regional(v.name) {
		p.ReplicationStatus = nil
	}
	if !v.destroyed.IsZero() {
		p.DestroyTime = timestamppb.New(v.destroyed)
	}
	return p
}

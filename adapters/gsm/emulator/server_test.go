package emulator_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"net"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/apex-tradebill/omni-secrets/adapters/gsm/emulator"
)

const (
	project  = "projects/omni-dev"
	secret   = project + "/secrets/api-key"
	regional = project + "/locations/europe-west3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is the API with the calls that tests make often.
type client struct {
	secretmanagerpb.SecretManagerServiceClient
	health grpc_health_v1.HealthClient
	server *emulator.Server
}

func start(t *testing.T) client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := emulator.New()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return client{secretmanagerpb.NewSecretManagerServiceClient(conn), grpc_health_v1.NewHealthClient(conn), server}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("the status is %s, want %s: %v", got, want, err)
	}
}

var automatic = &secretmanagerpb.Replication{
	Replication: &secretmanagerpb.Replication_Automatic_{Automatic: &secretmanagerpb.Replication_Automatic{}},
}

func (c client) create(t *testing.T, parent, id string) *secretmanagerpb.Secret {
	t.Helper()
	req := &secretmanagerpb.CreateSecretRequest{Parent: parent, SecretId: id, Secret: &secretmanagerpb.Secret{}}
	if !strings.Contains(parent, "/locations/") {
		req.Secret.Replication = automatic
	}
	return must[*secretmanagerpb.Secret](t)(c.CreateSecret(t.Context(), req))
}

func (c client) add(t *testing.T, secret, value string) *secretmanagerpb.SecretVersion {
	t.Helper()
	return must[*secretmanagerpb.SecretVersion](t)(c.AddSecretVersion(t.Context(), &secretmanagerpb.AddSecretVersionRequest{
		Parent: secret, Payload: &secretmanagerpb.SecretPayload{Data: []byte(value)},
	}))
}

func (c client) access(ctx context.Context, version string) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	return c.AccessSecretVersion(ctx, &secretmanagerpb.AccessSecretVersionRequest{Name: version})
}

func (c client) disable(t *testing.T, version string) {
	t.Helper()
	must[*secretmanagerpb.SecretVersion](t)(c.DisableSecretVersion(t.Context(), &secretmanagerpb.DisableSecretVersionRequest{Name: version}))
}

func (c client) setAliases(ctx context.Context, aliases map[string]int64) (*secretmanagerpb.Secret, error) {
	return c.UpdateSecret(ctx, &secretmanagerpb.UpdateSecretRequest{
		Secret:     &secretmanagerpb.Secret{Name: secret, VersionAliases: aliases},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"version_aliases"}},
	})
}

func checksum(data []byte) int64 {
	return int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

func TestLatestIsTheNewestCreatedVersionEvenWhenDisabled(t *testing.T) {
	c := start(t)
	c.create(t, project, "api-key")
	c.add(t, secret, "one")
	c.add(t, secret, "two")
	got := must[*secretmanagerpb.AccessSecretVersionResponse](t)(c.access(t.Context(), secret+"/versions/latest"))
	if got.GetName() != secret+"/versions/2" || string(got.GetPayload().GetData()) != "two" {
		t.Errorf("latest is %s", got.GetName())
	}
	c.disable(t, secret+"/versions/2")
	_, err := c.access(t.Context(), secret+"/versions/latest")
	wantCode(t, err, codes.FailedPrecondition)
	meta := must[*secretmanagerpb.SecretVersion](t)(c.GetSecretVersion(t.Context(), &secretmanagerpb.GetSecretVersionRequest{Name: secret + "/versions/latest"}))
	if meta.GetName() != secret+"/versions/2" || meta.GetState() != secretmanagerpb.SecretVersion_DISABLED {
		t.Errorf("latest is %s, %s", meta.GetName(), meta.GetState())
	}
	must[*secretmanagerpb.AccessSecretVersionResponse](t)(c.access(t.Context(), secret+"/versions/1"))
}

func TestStatesOfAVersion(t *testing.T) {
	enable := func(c client, ctx context.Context, name string) error {
		_, err := c.EnableSecretVersion(ctx, &secretmanagerpb.EnableSecretVersionRequest{Name: name})
		return err
	}
	disable := func(c client, ctx context.Context, name string) error {
		_, err := c.DisableSecretVersion(ctx, &secretmanagerpb.DisableSecretVersionRequest{Name: name})
		return err
	}
	destroy := func(c client, ctx context.Context, name string) error {
		_, err := c.DestroySecretVersion(ctx, &secretmanagerpb.DestroySecretVersionRequest{Name: name})
		return err
	}
	type step = func(client, context.Context, string) error
	for _, s := range []struct {
		name   string
		before []step
		last   step
		code   codes.Code
		access codes.Code
	}{
		{"enabling an enabled one", nil, enable, codes.OK, codes.OK},
		{"disabling an enabled one", nil, disable, codes.OK, codes.FailedPrecondition},
		{"destroying an enabled one", nil, destroy, codes.OK, codes.FailedPrecondition},
		{"enabling a disabled one", []step{disable}, enable, codes.OK, codes.OK},
		{"disabling a disabled one", []step{disable}, disable, codes.OK, codes.FailedPrecondition},
		{"destroying a disabled one", []step{disable}, destroy, codes.OK, codes.FailedPrecondition},
		{"enabling a destroyed one", []step{destroy}, enable, codes.FailedPrecondition, codes.FailedPrecondition},
		{"disabling a destroyed one", []step{destroy}, disable, codes.FailedPrecondition, codes.FailedPrecondition},
		{"destroying a destroyed one", []step{destroy}, destroy, codes.FailedPrecondition, codes.FailedPrecondition},
	} {
		t.Run(s.name, func(t *testing.T) {
			c := start(t)
			c.create(t, project, "api-key")
			version := c.add(t, secret, "value").GetName()
			for _, step := range s.before {
				if err := step(c, t.Context(), version); err != nil {
					t.Fatal(err)
				}
			}
			wantCode(t, s.last(c, t.Context(), version), s.code)
			_, err := c.access(t.Context(), version)
			wantCode(t, err, s.access)
		})
	}
}

func TestDestroyingErasesThePayload(t *testing.T) {
	c := start(t)
	c.create(t, project, "api-key")
	version := c.add(t, secret, "value").GetName()
	got := must[*secretmanagerpb.SecretVersion](t)(c.DestroySecretVersion(t.Context(), &secretmanagerpb.DestroySecretVersionRequest{Name: version}))
	if got.GetState() != secretmanagerpb.SecretVersion_DESTROYED || got.GetDestroyTime() == nil {
		t.Errorf("the version is %v", got)
	}
	if n := c.server.State().Secrets[0].Versions[0].PayloadBytes; n != 0 {
		t.Errorf("%d bytes of it are left", n)
	}
}

func TestPayloads(t *testing.T) {
	for _, p := range []struct {
		name    string
		payload *secretmanagerpb.SecretPayload
		want    codes.Code
	}{
		{"without a checksum", &secretmanagerpb.SecretPayload{Data: []byte("value")}, codes.OK},
		{"with its checksum", &secretmanagerpb.SecretPayload{Data: []byte("value"), DataCrc32C: new(checksum([]byte("value")))}, codes.OK},
		{"with another checksum", &secretmanagerpb.SecretPayload{Data: []byte("value"), DataCrc32C: proto.Int64(1)}, codes.InvalidArgument},
		{"with the checksum 0", &secretmanagerpb.SecretPayload{Data: []byte("value"), DataCrc32C: proto.Int64(0)}, codes.InvalidArgument},
		{"binary", &secretmanagerpb.SecretPayload{Data: []byte{0, 255, '\n'}}, codes.OK},
		{"none", nil, codes.InvalidArgument},
		{"empty", &secretmanagerpb.SecretPayload{}, codes.InvalidArgument},
		{"of 64 KiB", &secretmanagerpb.SecretPayload{Data: make([]byte, emulator.MaxPayloadBytes)}, codes.OK},
		{"larger", &secretmanagerpb.SecretPayload{Data: make([]byte, emulator.MaxPayloadBytes+1)}, codes.InvalidArgument},
	} {
		t.Run(p.name, func(t *testing.T) {
			c := start(t)
			c.create(t, project, "api-key")
			added, err := c.AddSecretVersion(t.Context(), &secretmanagerpb.AddSecretVersionRequest{Parent: secret, Payload: p.payload})
			wantCode(t, err, p.want)
			if err != nil {
				return
			}
			if added.GetClientSpecifiedPayloadChecksum() != (p.payload.DataCrc32C != nil) {
				t.Errorf("client_specified_payload_checksum is %t", added.GetClientSpecifiedPayloadChecksum())
			}
			got := must[*secretmanagerpb.AccessSecretVersionResponse](t)(c.access(t.Context(), added.GetName()))
			if !bytes.Equal(got.GetPayload().GetData(), p.payload.GetData()) {
				t.Error("the payload came back changed")
			}
			if got.GetPayload().DataCrc32C == nil || got.GetPayload().GetDataCrc32C() != checksum(p.payload.GetData()) {
				t.Errorf("the checksum is %v", got.GetPayload().DataCrc32C)
			}
		})
	}
}

func TestAliases(t *testing.T) {
	c := start(t)
	c.create(t, project, "api-key")
	c.add(t, secret, "one")
	c.add(t, secret, "two")
	must[*secretmanagerpb.Secret](t)(c.setAliases(t.Context(), map[string]int64{"stable": 1, "canary": 2}))
	got := must[*secretmanagerpb.AccessSecretVersionResponse](t)(c.access(t.Context(), secret+"/versions/stable"))
	if got.GetName() != secret+"/versions/1" || string(got.GetPayload().GetData()) != "one" {
		t.Errorf("stable is %s", got.GetName())
	}
	_, err := c.access(t.Context(), secret+"/versions/unknown")
	wantCode(t, err, codes.NotFound)
	_, err = c.DisableSecretVersion(t.Context(), &secretmanagerpb.DisableSecretVersionRequest{Name: secret + "/versions/stable"})
	wantCode(t, err, codes.InvalidArgument) // aliases are for reading alone

	for alias, number := range map[string]int64{"latest": 1, "LATEST": 1, "NEW": 1, "new": 1, "1": 1, "-a": 1, strings.Repeat("a", 64): 1, "": 1, "ok": 3, "zero": 0} {
		_, err := c.setAliases(t.Context(), map[string]int64{alias: number})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("alias %q of version %d: %v, want %s", alias, number, err, codes.InvalidArgument)
		}
	}
	many := make(map[string]int64)
	for i := range 51 {
		many[fmt.Sprintf("a%d", i)] = 1
	}
	_, err = c.setAliases(t.Context(), many)
	wantCode(t, err, codes.InvalidArgument)
	left := must[*secretmanagerpb.Secret](t)(c.GetSecret(t.Context(), &secretmanagerpb.GetSecretRequest{Name: secret}))
	if diff := cmp.Diff(map[string]int64{"stable": 1, "canary": 2}, left.GetVersionAliases()); diff != "" {
		t.Errorf("aliases after refused updates (-want +got):\n%s", diff)
	}
}

func TestEtags(t *testing.T) {
	const wrong = `"no such etag"`
	c := start(t)
	created := c.create(t, project, "api-key")
	version := c.add(t, secret, "value")
	update := func(etag string) (*secretmanagerpb.Secret, error) {
		return c.UpdateSecret(t.Context(), &secretmanagerpb.UpdateSecretRequest{
			Secret:     &secretmanagerpb.Secret{Name: secret, Etag: etag, Labels: map[string]string{"team": "omni"}},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels"}},
		})
	}
	if !strings.HasPrefix(created.GetEtag(), `"`) || !strings.HasSuffix(created.GetEtag(), `"`) {
		t.Errorf("the etag %s has no quotes", created.GetEtag())
	}
	now := must[*secretmanagerpb.Secret](t)(c.GetSecret(t.Context(), &secretmanagerpb.GetSecretRequest{Name: secret}))
	if now.GetEtag() != created.GetEtag() {
		t.Error("adding a version changed the etag of the secret")
	}

	_, err := update(wrong)
	wantCode(t, err, codes.FailedPrecondition)
	updated := must[*secretmanagerpb.Secret](t)(update(created.GetEtag()))
	_, err = update(created.GetEtag())
	wantCode(t, err, codes.FailedPrecondition)
	must[*secretmanagerpb.Secret](t)(update("")) // an etag may be left out

	_, err = c.DisableSecretVersion(t.Context(), &secretmanagerpb.DisableSecretVersionRequest{Name: version.GetName(), Etag: wrong})
	wantCode(t, err, codes.FailedPrecondition)
	_, err = c.DestroySecretVersion(t.Context(), &secretmanagerpb.DestroySecretVersionRequest{Name: version.GetName(), Etag: wrong})
	wantCode(t, err, codes.FailedPrecondition)
	enabled := must[*secretmanagerpb.SecretVersion](t)(c.EnableSecretVersion(t.Context(), &secretmanagerpb.EnableSecretVersionRequest{Name: version.GetName(), Etag: version.GetEtag()}))
	if enabled.GetEtag() == version.GetEtag() {
		t.Error("enabling an enabled version kept its etag")
	}

	_, err = c.DeleteSecret(t.Context(), &secretmanagerpb.DeleteSecretRequest{Name: secret, Etag: updated.GetEtag()})
	wantCode(t, err, codes.FailedPrecondition) // the update without an etag came after it
	now = must[*secretmanagerpb.Secret](t)(c.GetSecret(t.Context(), &secretmanagerpb.GetSecretRequest{Name: secret}))
	if _, err = c.DeleteSecret(t.Context(), &secretmanagerpb.DeleteSecretRequest{Name: secret, Etag: now.GetEtag()}); err != nil {
		t.Error(err)
	}
	_, err = c.access(t.Context(), version.GetName())
	wantCode(t, err, codes.NotFound)
}

func TestCreateSecret(t *testing.T) {
	plain := &secretmanagerpb.Secret{Replication: automatic}
	for _, s := range []struct {
		name       string
		parent, id string
		secret     *secretmanagerpb.Secret
		want       codes.Code
	}{
		{"global", project, "new-key", plain, codes.OK},
		{"regional", regional, "new-key", &secretmanagerpb.Secret{}, codes.OK},
		{"that exists", project, "api-key", plain, codes.AlreadyExists},
		{"global without replication", project, "new-key", &secretmanagerpb.Secret{}, codes.InvalidArgument},
		{"regional with replication", regional, "new-key", plain, codes.InvalidArgument},
		{"without the secret", project, "new-key", nil, codes.InvalidArgument},
		{"a bad id", project, "new.key", plain, codes.InvalidArgument},
		{"a long id", project, strings.Repeat("k", 256), plain, codes.InvalidArgument},
		{"a bad project", "projects/X", "new-key", plain, codes.InvalidArgument},
		{"no project", "", "new-key", plain, codes.InvalidArgument},
		{"a field beyond the emulator", project, "new-key", &secretmanagerpb.Secret{Replication: automatic, Tags: map[string]string{"a": "b"}}, codes.Unimplemented},
		{"aliases of no version", project, "new-key", &secretmanagerpb.Secret{Replication: automatic, VersionAliases: map[string]int64{"a": 1}}, codes.InvalidArgument},
	} {
		t.Run(s.name, func(t *testing.T) {
			c := start(t)
			c.create(t, project, "api-key")
			got, err := c.CreateSecret(t.Context(), &secretmanagerpb.CreateSecretRequest{Parent: s.parent, SecretId: s.id, Secret: s.secret})
			wantCode(t, err, s.want)
			if want := s.parent + "/secrets/" + s.id; err == nil && (got.GetName() != want || got.GetCreateTime() == nil) {
				t.Errorf("created %v, want %s", got, want)
			}
		})
	}
}

func TestUpdateMasks(t *testing.T) {
	for path, want := range map[string]codes.Code{
		"":                codes.InvalidArgument,
		"labels":          codes.OK,
		"annotations":     codes.OK,
		"version_aliases": codes.OK,
		"replication":     codes.InvalidArgument,
		"name":            codes.InvalidArgument,
		"labels.team":     codes.InvalidArgument,
		"rotation":        codes.Unimplemented,
	} {
		t.Run("mask "+path, func(t *testing.T) {
			c := start(t)
			c.create(t, project, "api-key")
			mask := &fieldmaskpb.FieldMask{}
			if path != "" {
				mask.Paths = []string{"labels", path}
			}
			got, err := c.UpdateSecret(t.Context(), &secretmanagerpb.UpdateSecretRequest{
				Secret: &secretmanagerpb.Secret{Name: secret, Labels: map[string]string{"a": "b"}}, UpdateMask: mask,
			})
			wantCode(t, err, want)
			if err == nil && got.GetLabels()["a"] != "b" {
				t.Errorf("the labels are %v", got.GetLabels())
			}
		})
	}
}

func TestResourceNames(t *testing.T) {
	c := start(t)
	c.create(t, project, "api-key")
	c.create(t, regional, "api-key")
	c.add(t, secret, "global")
	c.add(t, regional+"/secrets/api-key", "regional")
	for name, want := range map[string]codes.Code{
		secret + "/versions/1":                                        codes.OK,
		regional + "/secrets/api-key/versions/1":                      codes.OK,
		secret + "/versions/2":                                        codes.NotFound,
		secret + "-2/versions/1":                                      codes.NotFound,
		project + "/locations/us-central1/secrets/api-key/versions/1": codes.NotFound,
		secret:                                              codes.InvalidArgument,
		secret + "/versions/0":                              codes.InvalidArgument,
		secret + "/versions/01":                             codes.InvalidArgument,
		secret + "/versions/-1":                             codes.InvalidArgument,
		secret + "/versions/":                               codes.InvalidArgument,
		"/" + secret + "/versions/1":                        codes.InvalidArgument,
		"projects/7up/secrets/b/versions/1":                 codes.InvalidArgument,
		project + "/secrets/a.b/versions/1":                 codes.InvalidArgument,
		project + "/locations/A/secrets/api-key/versions/1": codes.InvalidArgument,
		"": codes.InvalidArgument,
	} {
		_, err := c.access(t.Context(), name)
		if status.Code(err) != want {
			t.Errorf("access %q: %v, want %s", name, err, want)
		}
	}
	got := must[*secretmanagerpb.AccessSecretVersionResponse](t)(c.access(t.Context(), regional+"/secrets/api-key/versions/latest"))
	if string(got.GetPayload().GetData()) != "regional" {
		t.Error("a regional secret and a global one of the same id are mixed up")
	}
}

func TestASecretWithoutVersionsHasNoLatest(t *testing.T) {
	c := start(t)
	c.create(t, project, "api-key")
	_, err := c.access(t.Context(), secret+"/versions/latest")
	wantCode(t, err, codes.NotFound)
}

func TestListsComeInPages(t *testing.T) {
	c := start(t)
	for _, id := range []string{"c", "a", "b", "e", "d"} {
		c.create(t, project, id)
	}
	c.create(t, regional, "elsewhere")
	var names []string
	for token, pages := "", 0; pages == 0 || token != ""; pages++ {
		resp := must[*secretmanagerpb.ListSecretsResponse](t)(c.ListSecrets(t.Context(),
			&secretmanagerpb.ListSecretsRequest{Parent: project, PageSize: 2, PageToken: token}))
		if len(resp.GetSecrets()) > 2 || resp.GetTotalSize() != 5 {
			t.Errorf("a page of %d, total %d", len(resp.GetSecrets()), resp.GetTotalSize())
		}
		for _, s := range resp.GetSecrets() {
			names = append(names, strings.TrimPrefix(s.GetName(), project+"/secrets/"))
		}
		token = resp.GetNextPageToken()
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, names); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}

	name := project + "/secrets/a"
	for range 3 {
		c.add(t, name, "value")
	}
	first := must[*secretmanagerpb.ListSecretVersionsResponse](t)(c.ListSecretVersions(t.Context(), &secretmanagerpb.ListSecretVersionsRequest{Parent: name, PageSize: 2}))
	rest := must[*secretmanagerpb.ListSecretVersionsResponse](t)(c.ListSecretVersions(t.Context(), &secretmanagerpb.ListSecretVersionsRequest{Parent: name, PageToken: first.GetNextPageToken()}))
	names = nil
	for _, v := range slices.Concat(first.GetVersions(), rest.GetVersions()) {
		names = append(names, strings.TrimPrefix(v.GetName(), name+"/versions/"))
	}
	if diff := cmp.Diff([]string{"3", "2", "1"}, names); diff != "" || rest.GetNextPageToken() != "" {
		t.Errorf("versions, the newest first (-want +got):\n%s", diff)
	}

	for what, req := range map[string]*secretmanagerpb.ListSecretsRequest{
		"a strange token":     {Parent: project, PageToken: "x"},
		"a negative size":     {Parent: project, PageSize: -1},
		"a malformed project": {Parent: "omni-dev"},
	} {
		if _, err := c.ListSecrets(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want %s", what, err, codes.InvalidArgument)
		}
	}
}

func TestIAMIsNotThere(t *testing.T) {
	c := start(t)
	_, err := c.GetIamPolicy(t.Context(), &iampb.GetIamPolicyRequest{Resource: secret})
	wantCode(t, err, codes.Unimplemented)
}

func TestHealth(t *testing.T) {
	c := start(t)
	if err := c.server.SetFault(emulator.Fault{Mode: emulator.Unavailable}); err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"", "google.cloud.secretmanager.v1.SecretManagerService"} {
		got := must[*grpc_health_v1.HealthCheckResponse](t)(c.health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service}))
		if got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("service %q is %s", service, got.GetStatus())
		}
	}
}

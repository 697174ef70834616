package integration_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	omni "github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

// BenchmarkRead reads the same secret from one server in each way that there is, one after the other: 32 callers at
// once, each answer audited; and, in the last, from the memory of the Go client.
func BenchmarkRead(b *testing.B) {
	gsm := startEmulator(b)
	s := prepareServe(b, gsm.endpoint).start(b)
	bearer := sign(b, s.secret, "svc-bench", domain.ScopeRead.String())
	want := gsm.values[apiKey]
	http1 := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	http2 := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	http2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)

	parallel := func(b *testing.B, read func() error) {
		b.Helper()
		b.ReportAllocs()
		b.SetParallelism(16) // times two cores
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := read(); err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
	}

	b.Run("REST", func(b *testing.B) {
		parallel(b, func() error {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.api+readPath+string(apiKey), http.NoBody)
			if err != nil {
				return err
			}
			r.Header.Set("Authorization", "Bearer "+bearer)
			response, err := http1.Do(r)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(body), want) {
				b.Errorf("status %d, %v", response.StatusCode, err)
			}
			return nil
		})
	})
	for _, c := range []struct {
		name    string
		inner   *http.Client
		options []connect.ClientOption
	}{
		{"Connect JSON", http1, []connect.ClientOption{connect.WithProtoJSON()}},
		{"Connect protobuf", http1, nil},
		{"Connect protobuf over HTTP2", http2, nil},
		{"gRPC by connect-go", http2, []connect.ClientOption{connect.WithGRPC()}},
	} {
		b.Run(c.name, func(b *testing.B) {
			secrets := secretsv1connect.NewSecretsServiceClient(bearerClient{c.inner, bearer}, s.api, c.options...)
			parallel(b, func() error {
				r, err := secrets.GetSecret(b.Context(), &secretsv1.GetSecretRequest{SecretType: string(apiKey)})
				if err == nil && string(r.GetSecret().GetValue()) != want {
					b.Error("another value")
				}
				return err
			})
		})
	}
	b.Run("gRPC by grpc-go", func(b *testing.B) {
		conn, err := grpc.NewClient(strings.TrimPrefix(s.api, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		ctx := metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+bearer)
		parallel(b, func() error {
			r := new(secretsv1.GetSecretResponse)
			err := conn.Invoke(ctx, secretsv1connect.SecretsServiceGetSecretProcedure, &secretsv1.GetSecretRequest{SecretType: string(apiKey)}, r)
			if err == nil && string(r.GetSecret().GetValue()) != want {
				b.Error("another value")
			}
			return err
		})
	})
	b.Run("Go client, from memory", func(b *testing.B) {
		c, err := omni.New(omni.Config{BaseURLs: []string{s.api}, Token: omni.StaticToken(bearer), SecretTypes: []string{string(apiKey)}})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		if err := c.Ready(b.Context()); err != nil {
			b.Fatal(err)
		}
		parallel(b, func() error {
			secret, err := c.Get(b.Context(), string(apiKey))
			if err == nil && string(secret.Value.Reveal()) != want {
				b.Error("another value")
			}
			return err
		})
	})
}

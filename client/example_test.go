package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/client/clienttest"
)

// A service makes one client when it starts, and calls Get whenever it needs a secret.
func Example() {
	omni, end := exampleServer() // in place of the real one
	defer end()

	secrets, err := client.New(client.Config{
		BaseURLs:    []string{omni.URL()}, // https://omni.example.com
		Token:       client.StaticToken(clienttest.Token),
		SecretTypes: []string{"trading_api_key"},
	})
	if err != nil {
		fmt.Println("the configuration is wrong:", err)
		return
	}
	defer secrets.Close()

	key, err := secrets.Get(context.Background(), "trading_api_key")
	if err != nil {
		fmt.Println("no key:", err)
		return
	}
	fmt.Printf("version %s from %s: %s\n", key.Version, key.Source, key.Value.Reveal())
	fmt.Printf("a value that is printed by mistake: %v\n", key.Value)
	// Output:
	// version 1 from gsm: key-1
	// a value that is printed by mistake: [redacted]
}

// OnChange is for what holds on to a secret, such as a connection that was opened with it.
func ExampleConfig_onChange() {
	omni, end := exampleServer()
	defer end()

	changes := make(chan client.Change, 10)
	secrets, err := client.New(client.Config{
		BaseURLs:    []string{omni.URL()},
		Token:       client.StaticToken(clienttest.Token),
		SecretTypes: []string{"trading_api_key"},
		OnChange:    func(change client.Change) { changes <- change },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer secrets.Close()
	if err := secrets.Ready(context.Background()); err != nil { // the first state is no change
		fmt.Println(err)
		return
	}

	omni.Set("trading_api_key", "key-2") // somebody rotates the key,
	change := <-changes
	fmt.Printf("connect again with version %s\n", change.Secret.Version)

	omni.Withdraw("trading_api_key") // and somebody disables it
	change = <-changes
	fmt.Println("close the connection:", change.Err)
	// Output:
	// connect again with version 2
	// close the connection: trading_api_key: the value was revoked and must not be used any more (version_disabled); a new version, or an override, takes its place (WITHDRAWN)
}

// Two servers, and a token in a file that something else renews. Neither a new token nor the end of a server needs
// anything from the service.
func ExampleTokenFile() {
	a, endA := exampleServer()
	defer endA()
	b, endB := exampleServer()
	defer endB()
	dir, err := os.MkdirTemp("", "omni-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "token")
	renew := func(token string) { // as a whole, so that nobody reads half of it
		if err := errors.Join(os.WriteFile(file+".new", []byte(token), 0o600), os.Rename(file+".new", file)); err != nil {
			panic(err)
		}
	}
	renew(clienttest.Token)

	changes := make(chan client.Change, 10)
	secrets, err := client.New(client.Config{
		BaseURLs:    []string{a.URL(), b.URL()},
		Token:       client.TokenFile(file),
		SecretTypes: []string{"trading_api_key"},
		OnChange:    func(change client.Change) { changes <- change },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer secrets.Close()
	if err := secrets.Ready(context.Background()); err != nil {
		fmt.Println(err)
		return
	}

	renew("token-2")
	a.AcceptOnly("token-2") // the first token has expired
	a.Set("trading_api_key", "key-2")
	fmt.Printf("with the new token: %s\n", (<-changes).Secret.Value.Reveal())

	b.AcceptOnly("token-2")
	b.Set("trading_api_key", "key-2")
	a.Stop()
	b.Set("trading_api_key", "key-3")
	fmt.Printf("from the other server: %s\n", (<-changes).Secret.Value.Reveal())
	// Output:
	// with the new token: key-2
	// from the other server: key-3
}

// MaxStale is how long a service would rather use a value that nobody can confirm than none. Here one accepts half an
// hour, which is the default, and the other one nothing of the kind.
func ExampleConfig_maxStale() {
	omni, end := exampleServer()
	defer end()
	omni.MarkStale("trading_api_key") // the backend is away

	for _, maxStale := range []time.Duration{client.DefaultMaxStale, client.NoStale} {
		secrets, err := client.New(client.Config{
			BaseURLs:    []string{omni.URL()},
			Token:       client.StaticToken(clienttest.Token),
			SecretTypes: []string{"trading_api_key"},
			MaxStale:    maxStale,
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		key, err := secrets.Get(context.Background(), "trading_api_key")
		secrets.Close()
		switch {
		case errors.Is(err, client.ErrStale):
			fmt.Println("rather none")
		case err != nil:
			fmt.Println(err)
		case key.Stale:
			fmt.Printf("%s, which may be old\n", key.Value.Reveal())
		default:
			fmt.Printf("%s\n", key.Value.Reveal())
		}
	}
	// Output:
	// key-1, which may be old
	// rather none
}

// Get fails for one of a few reasons, and each asks for something else.
func ExampleError() {
	omni, end := exampleServer()
	defer end()
	omni.MakeUnavailable("trading_client_secret", "unavailable")
	omni.Set("zk_signing_seed", "seed-1")
	omni.Forbid("zk_signing_seed")

	secrets, err := client.New(client.Config{
		BaseURLs:    []string{omni.URL()},
		Token:       client.StaticToken(clienttest.Token),
		SecretTypes: []string{"trading_client_secret", "zk_signing_seed"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer secrets.Close()

	for _, name := range []string{"trading_client_secret", "zk_signing_seed", "trading_api_key"} {
		_, err := secrets.Get(context.Background(), name)
		switch {
		case errors.Is(err, client.ErrStale):
			fmt.Println(name, "was there, but for too long nobody could confirm it")
		case errors.Is(err, client.ErrUnavailable):
			fmt.Println(name, "has no value now: try again later")
		case errors.Is(err, client.ErrRefused):
			fmt.Println(name, "is not for this service: have the catalog or the token changed")
		case errors.Is(err, client.ErrNotFollowed):
			fmt.Println(name, "is not in Config.SecretTypes")
		}
		if why, ok := errors.AsType[*client.Error](err); ok {
			fmt.Println("  for logs and alerts:", why.Code)
		}
	}
	// Output:
	// trading_client_secret has no value now: try again later
	//   for logs and alerts: SECRET_UNAVAILABLE
	// zk_signing_seed is not for this service: have the catalog or the token changed
	//   for logs and alerts: FORBIDDEN
	// trading_api_key is not in Config.SecretTypes
	//   for logs and alerts: NOT_FOLLOWED
}

// exampleServer is a server for an example. A test calls clienttest.NewServer(t), and needs no end.
func exampleServer() (omni *clienttest.Server, end func()) {
	var t exampleTest
	omni = clienttest.NewServer(&t)
	omni.Set("trading_api_key", "key-1")
	return omni, t.end
}

// exampleTest is what an example has in place of a *testing.T.
type exampleTest struct{ end func() }

func (t *exampleTest) Helper()                           {}
func (t *exampleTest) Cleanup(end func())                { t.end = end }
func (t *exampleTest) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

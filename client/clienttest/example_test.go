package clienttest_test

import (
	"context"
	"fmt"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/client/clienttest"
)

// trader is the service under test. It asks for its key whenever it needs it.
type trader struct{ secrets *client.Client }

func (s trader) order(ctx context.Context) string {
	key, err := s.secrets.Get(ctx, "trading_api_key")
	if err != nil {
		return "no order without a key"
	}
	return fmt.Sprintf("order signed with %s", key.Value.Reveal())
}

// In a test of your own, t is the *testing.T, and needs no end.
func Example() {
	var t test
	omni := clienttest.NewServer(&t)
	defer t.end()
	omni.Set("trading_api_key", "key-1")
	changed := make(chan struct{}, 10)
	cfg := omni.Config()
	cfg.OnChange = func(client.Change) { changed <- struct{}{} }
	secrets, err := client.New(cfg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer secrets.Close()
	service, ctx := trader{secrets}, context.Background()
	fmt.Println(service.order(ctx))

	omni.Set("trading_api_key", "key-2")
	<-changed
	fmt.Println("rotated:", service.order(ctx))

	omni.Withdraw("trading_api_key")
	<-changed
	fmt.Println("revoked:", service.order(ctx))

	// Output:
	// order signed with key-1
	// rotated: order signed with key-2
	// revoked: no order without a key
}

// test is what an example has in place of a *testing.T.
type test struct{ end func() }

func (t *test) Helper()                           {}
func (t *test) Cleanup(end func())                { t.end = end }
func (t *test) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// Package client gives a service the secrets of Omni Secrets from memory, and keeps them fresh.
//
//	secrets, err := client.New(client.Config{
//		BaseURLs:    []string{"https://omni-a.example.com", "https://omni-b.example.com"},
//		Token:       client.TokenFile("/run/secrets/omni-token"),
//		SecretTypes: []string{"trading_api_key"},
//	})
//	…
//	defer secrets.Close()
//	key, err := secrets.Get(ctx, "trading_api_key")
//
// Call Get whenever the secret is needed and do not keep what it returned: that is how a rotation or an override is
// seen within milliseconds.
//
// A Client follows its secrets by the stream WatchSecrets, at one of its base URLs at a time. While it has no stream it
// tries the URLs one after the other, and asks for each secret by GetSecret in between. A server that restarts, a token
// that is replaced and a network that comes back need nothing from the caller.
//
// # How long a value may be used
//
//	last confirmed          no longer confirmed            + MaxStale
//	      |----------- current ----------|--- Secret.Stale ---|  Get fails: ErrStale
//
// The stream confirms every value whenever anything is heard on it, for three keep-alive intervals; a poll confirms what
// it read, for one and a half poll intervals. A value that the server itself calls stale is stale from the end of its
// time to live. Two things end a value whatever MaxStale says: an override ends when the server said it would, with or
// without a connection, and a value that is withdrawn is gone as soon as the stream or a poll tells of it.
//
// Times of the server are taken relative to when it sent them and measured on the monotonic clock of this machine, so
// clocks that differ do no harm.
//
// Tests of services use the fake server of package clienttest.
package client

// Package clienttest is a fake Omni Secrets for the tests of services that use package client. It speaks the real
// protocol over real HTTP, so that the service under test is configured as it is in production:
//
//	omni := clienttest.NewServer(t)
//	omni.Set("trading_api_key", "first")
//	secrets, err := client.New(omni.Config())
//
// Then the test changes what is served, and looks at what the service makes of it: Set, Override, Withdraw, MarkStale,
// MakeUnavailable, Forbid, AcceptOnly, Stop and Start.
//
// NewInMemory makes the same server without sockets, for tests in a bubble of testing/synctest, where hours pass in no
// time.
package clienttest

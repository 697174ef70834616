// Package memory has in-process implementations of the ports, for tests of the use cases. They keep every
// promise of the ports but durability, run the same conformance suites as the real adapters, and can be told
// to fail.
//
// Nothing here starts a goroutine, and every wait is on a channel or a timer, so that all of it works inside a
// testing/synctest bubble when it is made there. Everything is safe for concurrent use.
package memory

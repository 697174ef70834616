// Package gsm reads secrets from Google Secret Manager through its official client, over gRPC.
//
// The client's own behaviour is replaced in four places, each for a reason that a test shows:
//
//   - Its retry policy (2 s to 60 s between attempts, 60 s in all) would keep a reader waiting through an
//     outage; Fetch makes short attempts of its own and gives up after Config.Timeout.
//   - Its logger writes every payload to standard error when GOOGLE_SDK_GO_LOGGING_LEVEL is "debug"; it gets a
//     logger that discards.
//   - An access token that cannot be fetched because its endpoint is down reads as UNAUTHENTICATED; here it is
//     an outage, like that of Secret Manager itself.
//   - Reconnecting would wait up to two minutes after a long outage; here it waits 2 s at most.
package gsm

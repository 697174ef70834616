// Package emulator is an in-memory server of the Google Secret Manager v1 API
// (google.cloud.secretmanager.v1.SecretManagerService over gRPC) for tests, laptops and outage drills.
//
// It keeps to the documented behaviour where it matters to a reader of secrets:
//
//   - "latest" is the version created last, whatever its state: once that one is disabled, accessing latest
//     fails with FAILED_PRECONDITION, although older versions are enabled.
//   - Versions are ENABLED, DISABLED or DESTROYED (see below); destroying erases the payload.
//   - The CRC32C of a payload is checked when a version is added and returned when it is accessed.
//   - Aliases of versions, etags, the payload limit of 64 KiB, resource names, paging, regional secrets.
//
// States of a version, with the calls that change them:
//
//	AddSecretVersion --> ENABLED --Disable--> DISABLED
//	                        ^                    |
//	                        +------Enable--------+
//	ENABLED or DISABLED --Destroy--> DESTROYED, which nothing leaves
//
// Server.SetFault, and POST /faults of Server.Control, make it fail, dawdle or lie. IAM is not there: its
// methods answer UNIMPLEMENTED, and so do fields that need more than a memory (rotation, topics, expiry,
// delayed destruction, customer-managed keys, tags). Project numbers are not resolved: projects/my-project and
// projects/123 are two projects.
//
// Payloads are never logged, and are shown by AccessSecretVersion alone.
package emulator

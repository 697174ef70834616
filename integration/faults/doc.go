// Package faults drills the built programs: it breaks what they depend on while they are used, and checks that no answered
// read lacks its audit event, that no override is lost or outlives its time, and that nothing revoked is served.
//
// The short form runs with all tests; `make drill` (OMNI_DRILL=long) holds each fault for longer and kills more often.
// docs/reliability.md has the table of drills and what was seen. They need Linux: /proc, signals to PostgreSQL, a small file system.
package faults

// Package domain is the vocabulary of Omni Secrets and the rules that do not depend on any technology:
// which secrets exist, how long a fetched value may be served, how long an override may live, when a
// credential must be rotated, what is alerted and what is audited.
//
// Everything here is a value or a function of values. Time is passed in; there is no context, no I/O, no
// logging and no import beyond the standard library.
package domain

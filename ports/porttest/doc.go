// Package porttest says in tests what the ports promise: one conformance suite for each port, which every
// adapter and the in-memory implementations run. A mistake found in one adapter becomes a case here.
package porttest

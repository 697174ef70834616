// Package integration tests the built programs from the outside: the runbook, outages, sudden death, hostile
// input, and the commands that the documentation shows.
package integration

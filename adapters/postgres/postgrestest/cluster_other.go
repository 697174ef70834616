//go:build !unix

package postgrestest

import "context"

// Where processes have no Unix users and signals, there is Docker and OMNI_TEST_DATABASE_URL.
func installed() string { return "" }

func newCluster(context.Context, string) (*Server, error) { return nil, errNone }

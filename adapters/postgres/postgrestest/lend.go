package postgrestest

import (
	"context"
	"errors"
	"time"
)

// Lend is for a program that is no test: it returns the URL of a new, empty database, on the server that tests would
// use, and what drops it. A server that it had to start flushes commits to disk, as in production, and ends by release.
func Lend(ctx context.Context) (url string, release func() error, err error) {
	server, err := findServer(ctx)
	if err != nil {
		return "", nil, err
	}
	name := "omni_load_" + random()
	if server.start != nil { // it is not that of OMNI_TEST_DATABASE_URL, whose settings are others' business
		err = server.setFlushing(ctx, "on")
	}
	if err == nil {
		err = server.execute(ctx, `CREATE DATABASE `+name+` TEMPLATE template0`)
	}
	if err != nil {
		return "", nil, errors.Join(err, server.remove())
	}
	return server.database(name), func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return errors.Join(server.execute(ctx, `DROP DATABASE `+name+` WITH (FORCE)`), server.remove())
	}, nil
}

// Command gsm-emulator serves an in-memory Google Secret Manager over gRPC, for laptops, tests and outage
// drills, and an HTTP control API that makes it fail. See -h, and package emulator for what it emulates.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

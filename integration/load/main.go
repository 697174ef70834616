// Command load measures a cached read of the built server beside a bare net/http handler that writes the same bytes,
// in turn, on one machine. `load -help` and docs/performance.md say how to use it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Getenv("PATH"), os.Stdin, os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("see load -help")

const usage = `Measure a cached read over REST, side by side with a bare net/http handler that writes the same bytes.

  go run ./integration/load [flags]      from the root of the repository; make load ARGS='...' does the same

Servers, each a process of its own on loopback:
  bare       net/http, the same headers and body, nothing else; ratios are to this one
  token      bare, and an HS256 check of the bearer token by golang-jwt
  sqlite     omni-secrets serve on SQLite, secrets in local files
  fsync      sqlite with OMNI_AUDIT_FSYNC=always
  postgres   omni-secrets serve on the PostgreSQL that the tests would use: the one of OMNI_TEST_DATABASE_URL, an
             installed one, or a container. It is left out when there is none, unless -servers names it

Each round measures every server at every number of connections, every other round in reverse order. A number in the
table is the median over the rounds, with the smallest and largest. Progress goes to standard error.

Examples:
  load                                              all of it, some five minutes
  load -servers bare,sqlite -connections 32         a quick look
  load -servers bare,sqlite -json >before.json      to compare with later
  load -open 2000 -connections 32                   latency at a fixed rate, counted from when a request was due
  load -cores 1 -servers bare,sqlite                how far one core goes

Flags:
`

// run is the whole program. path is where the go command and PostgreSQL are looked for.
func run(ctx context.Context, args []string, path string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 1 && (args[0] == bareName || args[0] == tokenName) {
		return serveBare(ctx, args[0], stdin, stdout)
	}
	p, err := parse(args, stderr)
	if err != nil {
		return err
	}
	p.path, p.progress = path, stderr
	r, err := p.measureAll(ctx)
	if err != nil {
		return err
	}
	if p.json {
		return r.writeJSON(stdout)
	}
	return r.writeTables(stdout)
}

// plan is what to measure.
type plan struct {
	rounds      int
	duration    time.Duration // of each measurement
	connections []int
	servers     []string
	named       bool    // the servers were chosen, so none may be left out
	rate        float64 // requests/s of the open loop; 0 for the closed one
	json        bool
	cores       int    // that the servers may use at once; 0 for all
	program     string // a built omni-secrets; "" to build it
	dir         string // of what the servers keep

	path     string
	progress io.Writer
}

func parse(args []string, stderr io.Writer) (*plan, error) {
	p := new(plan)
	var connections, servers string
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.IntVar(&p.rounds, "rounds", 5, "`number` of rounds")
	flags.DurationVar(&p.duration, "duration", 3*time.Second, "of each measurement; a tenth of it comes before, to warm up")
	flags.StringVar(&connections, "connections", "1,32,256", "`numbers` of connections, each with one request at a time")
	flags.StringVar(&servers, "servers", strings.Join(serverNames, ","), "`names` of the servers to measure")
	flags.Float64Var(&p.rate, "open", 0, "open loop: send `RATE` requests/s whatever the answers take; 0 is the closed loop, as fast as they come")
	flags.IntVar(&p.cores, "cores", 0, "`number` of cores that each server may use at once (GOMAXPROCS), the client all; 0 for all")
	flags.BoolVar(&p.json, "json", false, "print JSON rather than tables")
	flags.StringVar(&p.program, "program", "", "measure this built omni-secrets, a `file`, rather than build the one of this directory")
	flags.StringVar(&p.dir, "dir", "", "let the servers keep their data in a new directory under `DIR`; the system's temporary one otherwise. For fsync it must be a disk")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage // the flag package has said what is wrong
	}
	wrong := func(format string, args ...any) error { return fmt.Errorf(format+"; %w", append(args, errUsage)...) }
	if flags.NArg() > 0 {
		return nil, wrong("there is no argument %q", flags.Arg(0))
	}
	if p.rounds < 1 || p.duration <= 0 || p.rate < 0 || p.cores < 0 {
		return nil, wrong("-rounds must be 1 or more, -duration more than 0, -open not negative, -cores neither")
	}
	for text := range strings.SplitSeq(connections, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, wrong("-connections: %q is not a number of 1 or more", text)
		}
		p.connections = append(p.connections, n)
	}
	for name := range strings.SplitSeq(servers, ",") {
		if !slices.Contains(serverNames, name) || slices.Contains(p.servers, name) {
			return nil, wrong("-servers: %q is none of %s, or twice", name, strings.Join(serverNames, ", "))
		}
		p.servers = append(p.servers, name)
	}
	flags.Visit(func(f *flag.Flag) { p.named = p.named || f.Name == "servers" })
	return p, nil
}

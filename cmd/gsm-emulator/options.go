package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// options are what the command line and the environment say. A flag wins over its variable.
type options struct {
	listen  string
	control string
	project string
	seedDir string
	health  string
	version bool
}

// flags gives each flag its variable, default and meaning, in the order in which -h shows them.
var flags = []struct {
	name, variable, fallback, usage string
	field                           func(*options) *string
}{
	{"listen", "OMNI_EMULATOR_LISTEN", "127.0.0.1:9085", "`address` of the gRPC API; port 0 takes any free one", func(o *options) *string { return &o.listen }},
	{"control", "OMNI_EMULATOR_CONTROL", "127.0.0.1:9086", "`address` of the HTTP control API, which asks for no credentials", func(o *options) *string { return &o.control }},
	{"project", "OMNI_EMULATOR_PROJECT", "omni-dev", "`project` that --seed-dir fills", func(o *options) *string { return &o.project }},
	{"seed-dir", "OMNI_EMULATOR_SEED_DIR", "", "`folder` whose files NAME become version 1 of the secrets NAME", func(o *options) *string { return &o.seedDir }},
}

const healthUsage = "`URL` of the control API of an emulator: ask whether it serves, and exit with 0 or 1"

const usageHead = `gsm-emulator serves an in-memory Google Secret Manager (gRPC) and an HTTP API to steer it.
Nothing is kept when it ends.

Usage:
  gsm-emulator [flags]

Flags (each has a variable of the environment; the flag wins):
`

const usageTail = `
Point Omni Secrets at it:
  OMNI_GSM_ENDPOINT=127.0.0.1:9085 GCP_PROJECT_ID=omni-dev omni-secrets serve

Steer it (CONTROL=http://127.0.0.1:9086):
  curl -X PUT --data-binary @value.txt $CONTROL/secrets/omni-dev/apex-omni-trading-api-key   # a new version
  curl -X POST $CONTROL/secrets/omni-dev/apex-omni-trading-api-key/versions/1/disable        # enable, destroy
  curl -X PUT -d '{"version":1}' $CONTROL/secrets/omni-dev/apex-omni-trading-api-key/aliases/stable
  curl -X POST -d '{"mode":"unavailable"}' $CONTROL/faults                                   # an outage begins
  curl -X POST -d '{"mode":"delay","delayMs":800,"rate":0.5,"secret":"apex-omni-trading-api-key"}' $CONTROL/faults
  curl -X DELETE $CONTROL/faults                                                             # and ends
  curl $CONTROL/state                                                                        # no payloads
  curl $CONTROL/healthz

Modes of faults: unavailable, deny, unauthenticated, internal, resource_exhausted, delay, hang, corrupt.
Regional secrets: add ?location=LOCATION to the paths under /secrets.

Exit codes: 0 after SIGINT or SIGTERM, 1 when it cannot serve or --health fails, 2 for a wrong command line.
`

// parse reads the command line. It writes the help text to help when that is asked for, and returns
// flag.ErrHelp then.
func parse(args []string, getenv func(string) string, help io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("gsm-emulator", flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors are returned, and printed once
	set.Usage = func() {}
	for _, f := range flags {
		value := getenv(f.variable)
		if value == "" {
			value = f.fallback
		}
		set.StringVar(f.field(&o), f.name, value, f.usage)
	}
	set.StringVar(&o.health, "health", "", healthUsage)
	set.BoolVar(&o.version, "version", false, "print the version and exit")
	err := set.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		writeUsage(help)
		return o, err
	}
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q: everything is a flag", set.Arg(0))
	}
	if err != nil {
		return o, fmt.Errorf("%w; gsm-emulator -h explains the flags", err)
	}
	return o, nil
}

func writeUsage(w io.Writer) {
	var b strings.Builder
	b.WriteString(usageHead)
	for _, f := range flags {
		operand, usage := operandOf(f.usage)
		fmt.Fprintf(&b, "  --%-18s %s", f.name+" "+operand, usage)
		if f.fallback != "" {
			fmt.Fprintf(&b, " (default %s)", f.fallback)
		}
		fmt.Fprintf(&b, "\n  %-20s $%s\n", "", f.variable)
	}
	operand, usage := operandOf(healthUsage)
	fmt.Fprintf(&b, "  --%-18s %s\n", "health "+operand, usage)
	fmt.Fprintf(&b, "  --%-18s %s\n", "version", "print the version and exit")
	b.WriteString(usageTail)
	_, _ = io.WriteString(w, b.String()) // there is nobody else to tell
}

// operandOf takes the operand's name, set in back quotes, out of a flag's usage.
func operandOf(usage string) (operand, rest string) {
	parts := strings.SplitN(usage, "`", 3)
	return strings.ToUpper(parts[1]), parts[1] + parts[2]
}

package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const doctorLong = `Checks what a server needs, before it starts or while something is wrong, with the same environment as 'serve'. It
prints one line a check: ok, warning, failed, or skipped where it cannot be made here; and below it what to do next.

  configuration  the settings: everything that is wrong at once, as 'serve' would refuse it
  database       it answers and has the schema of this program; its login may do what the server must, and may not
                 change the audit trail (PostgreSQL)
  audit trail    checkpoints of the audit trail are signed, and lately
  backend        each secret can be fetched, in the version that is served and in the one that it is rotated to, and if
                 not, why and which right is missing
  break-glass    OMNI_BREAKGLASS_PUBLIC_KEY, when set, belongs to the private key; which keys the server has, by their ids;
                 each open override can be opened with one of them
  clock          this machine's clock beside those of the database and of the server: more than 1s is a warning, more
                 than 5s a failure, since tokens are checked without leeway and overrides end by the clock
  journal        the audit journal's folder can be written and has space left
  rotation       deadlines that are near or past
  survival       how long each secret would still be served if its backend went away now, as a running server has it
                 in memory: when its address and a token with the scope ops.omni.secrets.read are given

Where the environment is not the server's, it asks a running server for its clock and for survival, and skips the rest.

It changes nothing: no migration, no audit event, no row, no file. No value is ever printed. It does fetch each secret
once, 8 at a time, as a server does: that counts against the quota of Secret Manager, and shows in its audit logs.

The exit code is 0 when nothing failed (warnings do not count), and 7 when something did.`

func newDoctorCommand(s *streams) *cobra.Command {
	var f clientFlags
	var devDir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the settings, the database, the backends and everything else that a server needs",
		Long:  doctorLong,
		Example: `  omni-secrets doctor
  omni-secrets doctor --api-url $API --token $OPS_JWT
  omni-secrets doctor --data-dir .omni-dev
  omni-secrets doctor -o json | jq -r '.checks[] | select(.status == "failed")'`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.timeout <= 0 {
				return usageErrorf("--timeout must be more than 0")
			}
			d := &diagnosis{s: s, counts: map[verdict]int{}}
			switch {
			case devDir == "" && !serverSettings(s):
				return d.run(cmd.Context(), append([]func() []finding{notHere}, askServer(cmd.Context(), s, &f)...))
			case devDir == "":
				c, wrong := readConfig(s.lookupEnv)
				return d.run(cmd.Context(), append(examineHere(cmd.Context(), s, c, wrong), askServer(cmd.Context(), s, &f)...))
			case !isDev(devDir):
				return d.run(cmd.Context(), []func() []finding{func() []finding { return noDev(devDir) }})
			default:
				c, wrong := existingDev(devDir)
				return d.run(cmd.Context(), append(examineHere(cmd.Context(), s, c, wrong), askServer(cmd.Context(), s, &f)...))
			}
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&devDir, "data-dir", "", "check the server of 'omni-secrets dev' that keeps everything under `DIR`")
	must(cmd.MarkFlagDirname("data-dir"))
	return cmd
}

// verdict is how a check ended.
type verdict string

const (
	verdictOK      verdict = "ok"
	verdictWarning verdict = "warning"
	verdictFailed  verdict = "failed"
	verdictSkipped verdict = "skipped" // it could not be made
)

// finding is the result of one check. Nothing secret is in it.
type finding struct {
	Check      string            `json:"check"`
	SecretType domain.SecretType `json:"secretType,omitempty"` // of checks that are made for each secret
	Status     verdict           `json:"status"`
	Detail     string            `json:"detail"`
	Next       string            `json:"next,omitempty"` // what to do about it
}

func found(check string, v verdict, format string, args ...any) finding {
	return finding{Check: check, Status: v, Detail: oneLine(fmt.Sprintf(format, args...))}
}

// of says which secret it is about.
func (f finding) of(t domain.SecretType) finding {
	f.SecretType = t
	return f
}

// try says what to do next.
func (f finding) try(format string, args ...any) finding {
	f.Next = oneLine(fmt.Sprintf(format, args...))
	return f
}

// diagnosis is what was found so far.
type diagnosis struct {
	s        *streams
	findings []finding
	counts   map[verdict]int
}

// add takes the findings of a check and prints them, unless everything is printed as JSON at the end.
func (d *diagnosis) add(findings ...finding) error {
	s := d.s
	for _, f := range findings {
		d.findings = append(d.findings, f)
		d.counts[f.Status]++
		if s.json() {
			continue
		}
		name := f.Check
		if f.SecretType != "" {
			name += " " + string(f.SecretType)
		}
		if err := s.print("%-8s %s: %s\n", f.Status, name, f.Detail); err != nil {
			return err
		}
		if f.Next == "" {
			continue
		}
		if err := s.print("         next: %s\n", f.Next); err != nil {
			return err
		}
	}
	return nil
}

// conclude prints the rest and says whether anything failed.
func (d *diagnosis) conclude() error {
	s := d.s
	var err error
	if s.json() {
		err = s.printValue(struct {
			Checks  []finding `json:"checks"`
			OK      int       `json:"ok"`
			Warning int       `json:"warning"`
			Failed  int       `json:"failed"`
			Skipped int       `json:"skipped"`
		}{d.findings, d.counts[verdictOK], d.counts[verdictWarning], d.counts[verdictFailed], d.counts[verdictSkipped]})
	} else {
		err = s.print("%d ok, %d with a warning, %d failed, %d skipped\n",
			d.counts[verdictOK], d.counts[verdictWarning], d.counts[verdictFailed], d.counts[verdictSkipped])
	}
	if err != nil {
		return err
	}
	if d.counts[verdictSkipped] == len(d.findings) {
		return failuref("nothing could be checked here")
	}
	if n := d.counts[verdictFailed]; n > 0 {
		return &exitError{code: exitUnhealthy, err: fmt.Errorf("%d of %d checks failed", n, len(d.findings))}
	}
	return nil
}

// run makes the checks and prints what they find.
func (d *diagnosis) run(ctx context.Context, checks []func() []finding) error {
	for _, check := range checks {
		if err := d.add(check()...); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return d.conclude()
}

// examineHere are the checks that need the server's environment. wrong is what is wrong with c.
func examineHere(ctx context.Context, s *streams, c config, wrong error) []func() []finding {
	var decided standings
	return []func() []finding{
		func() []finding { return checkConfiguration(ctx, c, wrong) },
		func() (findings []finding) { findings, decided = examineDatabase(ctx, c); return findings },
		func() []finding { return checkBackends(ctx, c, decided, s.progress()) },
		func() []finding { return []finding{checkKeyPair(ctx, &c, s.env(publicKeyEnv))} },
		func() []finding { return checkOverrides(ctx, &c) },
		func() []finding { return []finding{checkJournal(c)} },
	}
}

// askServer are the checks that ask a running server.
func askServer(ctx context.Context, s *streams, f *clientFlags) []func() []finding {
	return []func() []finding{
		func() []finding { return []finding{checkServerClock(ctx, s, f)} },
		func() []finding { return checkSurvival(ctx, s, f) },
	}
}

// serverSettings reports whether anything is set that only a server needs: what is missing is missing by mistake then.
func serverSettings(s *streams) bool {
	return slices.ContainsFunc([]string{"DATABASE_URL", jwtSecretEnv, jwtFileEnv, "OMNI_JWKS_URL", privateKeyEnv, privateKeyFileEnv, privateKeySecretEnv},
		func(name string) bool { return s.env(name) != "" })
}

func notHere() []finding {
	return []finding{found(configurationCheck, verdictSkipped,
		"this is not the server's environment: its database, backends, break-glass key and journal are not looked at").
		try("run it where 'serve' runs, with the same environment, or with --data-dir for the server of 'omni-secrets dev'")}
}

func noDev(dir string) []finding {
	return []finding{found(configurationCheck, verdictFailed, "there is no server of 'omni-secrets dev' in %s", dir).
		try("give the --data-dir that 'omni-secrets dev' was started with; it is .omni-dev unless it was told another")}
}

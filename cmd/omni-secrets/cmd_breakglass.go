package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	breakGlassPath = "/ops/apex-omni/secrets/break-glass"
	publicKeyEnv   = "OMNI_BREAKGLASS_PUBLIC_KEY"

	// clockAllowance keeps the longest override this far from the server's limit, which the server measures by
	// its own clock: a clock that is a little behind ours would refuse it.
	clockAllowance = 5 * time.Second

	// An override reaches every replica within a second; whichever of them answers is asked until it knows.
	defaultConfirmTimeout = 5 * time.Second
	confirmEvery          = 200 * time.Millisecond
)

// breakGlassFlags are the flags of breakglass.
type breakGlassFlags struct {
	clientFlags
	secretType, valueFile, publicKey, reason string
	ttl, confirmTimeout                      time.Duration
	envelopeVersion                          int
	trimNewline                              bool
}

func newBreakGlassCommand(s *streams) *cobra.Command {
	var f breakGlassFlags
	cmd := &cobra.Command{
		Use:   "breakglass",
		Short: "Put a value in a secret's place for at most 30 minutes",
		Long: `Encrypts a value with the server's break-glass public key and has the server serve it in place of the one from
its backend, for at most 30 minutes. It is for the time when the backend is gone. Afterwards the command reads the
status back, and fails unless the server says that it serves the override.

Every override opens a follow-up: its value is known to more people and machines than before, so the secret is rotated
afterwards, or somebody says why it need not be. 'omni-secrets breakglass follow-ups' lists them.

--secretType, as the REST API spells it, stands for --secret-type in every command.

The value comes from a file or from standard input, never from the command line, where other users and the
shell's history would see it. Only the encrypted value leaves this machine.

The time to live is counted from now by this machine's clock, cut to whole seconds; the server counts by its own.
An override that would end within 5 seconds of the limit of 30 minutes ends at that distance from it, so that
--ttl 30m is not refused by a server whose clock is a little behind.

The token needs the scopes ops.omni.secrets.breakglass and, to read the status, ops.omni.secrets.read.`,
		Example: `  omni-secrets breakglass --secret-type trading_api_key --secret-value-file ./tmp/secret.plaintext --ttl 25m \
    --api-url $API --token $OPS_JWT --reason 'INC-1234: Secret Manager is down'
  pass show trading/api-key | omni-secrets breakglass --secret-type trading_api_key --secret-value-file - \
    --trim-newline --ttl 10m`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return breakGlass(cmd.Context(), s, f) },
	}
	f.register(cmd)
	flags := cmd.Flags()
	secretTypeFlag(cmd, &f.secretType)
	flags.StringVar(&f.valueFile, "secret-value-file", "", "read the value from `FILE`; - is standard input")
	flags.DurationVar(&f.ttl, "ttl", 0, "end the override after this `DURATION`, such as 25m; at most 30m")
	flags.StringVar(&f.publicKey, "public-key", "", "the server's break-glass public `KEY` ("+publicKeyEnv+")")
	flags.StringVar(&f.reason, "reason", "", "`TEXT` for the audit trail: why this is done")
	flags.IntVar(&f.envelopeVersion, "envelope-version", 2, "encrypt as `VERSION` 1 or 2; 1 is for servers that do not know 2")
	flags.BoolVar(&f.trimNewline, "trim-newline", false, "leave out the newline at the end of the value")
	flags.DurationVar(&f.confirmTimeout, "confirm-timeout", defaultConfirmTimeout, "ask for this `DURATION` whether the override is served")
	must(cmd.RegisterFlagCompletionFunc("envelope-version", cobra.FixedCompletions([]string{"1", "2"}, cobra.ShellCompDirectiveNoFileComp)))
	cmd.AddCommand(newBreakGlassClearCommand(s), newFollowUpsCommand(s))
	return cmd
}

// breakGlass checks everything that can be checked here before it sends anything.
func breakGlass(ctx context.Context, s *streams, f breakGlassFlags) error {
	key, err := f.check(s)
	if err != nil {
		return err
	}
	client, err := f.client(s)
	if err != nil {
		return err
	}
	value, err := readPlaintext(ctx, s, f.valueFile, f.trimNewline)
	if err != nil {
		return err
	}
	expiresAt := overrideExpiry(time.Now(), f.ttl)
	ciphertext, err := envelope.Seal(key, domain.SecretType(f.secretType), instant(&expiresAt), value, f.envelopeVersion)
	if err != nil {
		return failuref("encrypt the value: %w", err)
	}
	if err := client.applyOverride(ctx, f, ciphertext, expiresAt); err != nil {
		return err
	}
	row, at, err := client.confirmOverride(ctx, f.secretType, expiresAt, f.confirmTimeout)
	if err != nil {
		return err
	}
	return s.printOverride(f, row.CacheSource, expiresAt, at)
}

// check looks at the flags alone.
func (f breakGlassFlags) check(s *streams) (envelope.PublicKey, error) {
	if err := checkSecretType(f.secretType); err != nil {
		return envelope.PublicKey{}, err
	}
	switch {
	case f.valueFile == "":
		return envelope.PublicKey{}, usageErrorf("--secret-value-file is missing").
			try("put the value into a file that only you can read, or pass - for standard input")
	case f.ttl == 0:
		return envelope.PublicKey{}, usageErrorf("--ttl is missing or 0").try("say how long the override is to last, such as --ttl 25m")
	case f.ttl < time.Second:
		return envelope.PublicKey{}, usageErrorf("--ttl %s is too short: an override lasts at least a second", f.ttl)
	case f.ttl > domain.MaxOverrideTTL:
		return envelope.PublicKey{}, usageErrorf("--ttl %s is too long: an override lasts at most 30m", f.ttl)
	case f.envelopeVersion != 1 && f.envelopeVersion != 2:
		return envelope.PublicKey{}, usageErrorf("--envelope-version %d is not known: it is 1 or 2", f.envelopeVersion)
	case f.confirmTimeout < 0:
		return envelope.PublicKey{}, usageErrorf("--confirm-timeout must not be negative")
	}
	if err := domain.CheckReason(strings.TrimSpace(f.reason)); err != nil {
		return envelope.PublicKey{}, usageErrorf("--reason: %w", err)
	}
	text := s.setting("public-key", f.publicKey, publicKeyEnv)
	if text.value == "" {
		return envelope.PublicKey{}, configErrorf("the server's break-glass public key is not set").
			try("set %s or pass --public-key; whoever runs the server has it", publicKeyEnv)
	}
	key, err := envelope.ParsePublicKey(text.value)
	if err != nil {
		return envelope.PublicKey{}, text.wrong("%w", err)
	}
	return key, nil
}

// overrideExpiry is when an override that is sent at now ends, to the second. It is never later than ttl says.
func overrideExpiry(now time.Time, ttl time.Duration) time.Time {
	return now.Add(min(ttl, domain.MaxOverrideTTL-clockAllowance)).UTC().Truncate(time.Second)
}

func (c *apiClient) applyOverride(ctx context.Context, f breakGlassFlags, ciphertext string, expiresAt time.Time) error {
	request := struct {
		SecretType string `json:"secretType"`
		Ciphertext string `json:"ciphertext"`
		ExpiresAt  string `json:"expiresAt"`
		Reason     string `json:"reason,omitempty"`
	}{f.secretType, ciphertext, instant(&expiresAt), strings.TrimSpace(f.reason)}
	_, err := c.do(ctx, call{
		doing: "apply the override", method: http.MethodPost, path: breakGlassPath,
		body: request, scope: domain.ScopeBreakGlass,
	})
	return orUnknownOutcome(err, "the override may be in place all the same: look with 'omni-secrets status' before you try again")
}

// confirmOverride asks until the server serves the override that ends at expiresAt, at least once. It returns
// the row that says so and the time at which the server said it.
func (c *apiClient) confirmOverride(ctx context.Context, secretType string, expiresAt time.Time, within time.Duration) (statusRow, time.Time, error) {
	const accepted = "the server accepted the override, but "
	deadline := time.Now().Add(within)
	for {
		page, _, err := c.status(ctx, accepted+"reading the status back failed")
		if err != nil {
			return statusRow{}, time.Time{}, err
		}
		row, known := page.row(secretType)
		if known && row.servesOverride(expiresAt) {
			return row, page.UpdatedAt, nil
		}
		if !time.Now().Before(deadline) {
			return statusRow{}, time.Time{}, failuref("%sits status for %s says cacheSource=%q and not the new override after %s", accepted, secretType, row.CacheSource, within).
				try("look at 'omni-secrets status' again and at the server's log for %s; another operator may have ended or replaced it, or the replicas do not share a database", domain.AlertBreakGlassApplied)
		}
		select {
		case <-ctx.Done():
			return statusRow{}, time.Time{}, failuref("%swaiting for its status was %w", accepted, errInterrupted).
				try("look at 'omni-secrets status'")
		case <-time.After(confirmEvery):
		}
	}
}

// servesOverride reports whether the row is of a secret whose override ends at expiresAt.
func (r statusRow) servesOverride(expiresAt time.Time) bool {
	return r.CacheSource == domain.SourceBreakGlass &&
		r.BreakGlassExpiresAt != nil && r.BreakGlassExpiresAt.Truncate(time.Second).Equal(expiresAt)
}

// printOverride tells of an override that the server said at a time that it serves.
func (s *streams) printOverride(f breakGlassFlags, cacheSource string, expiresAt, at time.Time) error {
	if s.json() {
		return s.printValue(struct {
			SecretType  string    `json:"secretType"`
			ExpiresAt   time.Time `json:"expiresAt"`
			CacheSource string    `json:"cacheSource"`
		}{f.secretType, expiresAt, cacheSource})
	}
	if err := s.print(`The override of %[1]s is in place.
cacheSource=%[2]q until %[3]s (%[6]s left)

Next:
  to end it early:           omni-secrets breakglass clear --secret-type %[1]s%[4]s
  when the backend is back:  omni-secrets refresh --secret-type %[1]s%[4]s
                             (with a token that has scope %[5]s)
  afterwards, within a day:  rotate it, or say why not: omni-secrets breakglass follow-ups%[4]s
`, f.secretType, cacheSource, instant(&expiresAt), f.again(), domain.ScopeCacheRefresh, span(expiresAt.Sub(at))); err != nil {
		return err
	}
	if f.valueFile == stdinPath {
		return nil
	}
	return s.print("  destroy the plaintext now: shred -u %s\n", shellWord(f.valueFile))
}

func newBreakGlassClearCommand(s *streams) *cobra.Command {
	var f clientFlags
	var secretType string
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "End an override before its time",
		Long: `Ends the override of a secret: the value from the backend is served again and the stored ciphertext is erased.
An override also ends by itself when its time is over, and when 'omni-secrets refresh' succeeds.

The token needs the scope ops.omni.secrets.breakglass.`,
		Example:           `  omni-secrets breakglass clear --secret-type trading_api_key`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return clearOverride(cmd.Context(), s, f, secretType)
		},
	}
	f.register(cmd)
	secretTypeFlag(cmd, &secretType)
	return cmd
}

func clearOverride(ctx context.Context, s *streams, f clientFlags, secretType string) error {
	if err := checkSecretType(secretType); err != nil {
		return err
	}
	client, err := f.client(s)
	if err != nil {
		return err
	}
	_, err = client.do(ctx, call{
		doing: "end the override", method: http.MethodDelete, path: breakGlassPath + "/" + secretType,
		scope: domain.ScopeBreakGlass,
	})
	if err != nil {
		return orUnknownOutcome(err, "the override may have ended all the same: look with 'omni-secrets status'")
	}
	if s.json() {
		return s.printValue(struct {
			SecretType string `json:"secretType"`
			Cleared    bool   `json:"cleared"`
		}{secretType, true})
	}
	return s.print("The override of %s has ended.\n", secretType)
}

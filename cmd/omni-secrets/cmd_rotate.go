package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	previewPath   = "/ops/apex-omni/secrets/rotation-preview"
	rotationsPath = "/ops/apex-omni/secrets/rotations"

	// checksTimeout is longer than all checks of a version may take together.
	checksTimeout = time.Minute
)

func newRotateCommand(s *streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Check a new version, move to it, and see what is due",
		Long: `Moves a secret from the version that is served to a new one, in steps that can be checked and undone:

  preview   fetches a version and has it pass the checks of the catalog; nothing changes
  begin     checks it again; what is served stays the same until the rotation is promoted or aborted
  promote   serves the new version, on every replica within a second; the next deadline counts from now
  abort     serves on what was served before

A version that is added behind the catalog's alias (latest), without any of this, is served as soon as the server
fetches it, and counts as a rotation, too. 'done' records one that left no trace there.

None of these commands prints a value.`,
		Example: `  omni-secrets rotate due
  omni-secrets rotate preview --secret-type trading_api_key --version 8
  omni-secrets rotate begin   --secret-type trading_api_key --version 8
  omni-secrets rotate promote --secret-type trading_api_key`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return usageErrorf("rotate needs a command: preview, begin, promote, abort, status, due or done")
		},
	}
	cmd.AddCommand(newRotatePreviewCommand(s), newRotateBeginCommand(s),
		newRotateEndCommand(s, promoteStep), newRotateEndCommand(s, abortStep),
		newRotateStatusCommand(s), newRotateDueCommand(s), newRotateDoneCommand(s))
	return cmd
}

// rotateFlags are the flags of preview and begin.
type rotateFlags struct {
	clientFlags
	secretType, version, webhookURL string
}

func (f *rotateFlags) registerVersion(cmd *cobra.Command) {
	f.registerPatient(cmd, checksTimeout)
	secretTypeFlag(cmd, &f.secretType)
	cmd.Flags().StringVar(&f.version, "version", "", "`NUMBER` of the version, such as 8")
	must(cmd.RegisterFlagCompletionFunc("version", cobra.NoFileCompletions))
}

func (f *rotateFlags) check() error {
	if err := checkSecretType(f.secretType); err != nil {
		return err
	}
	switch {
	case f.version == "":
		return usageErrorf("--version is missing").try("give the number of the new version in its backend, such as --version 8")
	case !domain.NumberedVersion(f.version):
		return usageErrorf("--version must be a number, such as 8").
			try("look it up in the backend: an alias such as latest may stand for another version a moment later")
	}
	return nil
}

func newRotatePreviewCommand(s *streams) *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use:   "preview",
		Short: "Check a version without a change to what is served",
		Long: `Has the server fetch a version and check it: it can be read, it is neither the version nor the value that is served,
and it passes the rules that the catalog has for the secret. --webhook-url asks one more receiver: it gets a request
that is signed with the value and does not hold it.

The command fails with exit code 8 when the version does not pass. With -o json it prints what the server sent, then
too. The token needs the scope ops.omni.secrets.rotate.`,
		Example: `  omni-secrets rotate preview --secret-type trading_api_key --version 8
  omni-secrets rotate preview --secret-type webhook_shared_secret --version 3 --webhook-url https://hooks.example.com/rotate`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return previewRotation(cmd.Context(), s, f) },
	}
	f.registerVersion(cmd)
	cmd.Flags().StringVar(&f.webhookURL, "webhook-url", "", "ask the receiver at this `URL`, too")
	must(cmd.RegisterFlagCompletionFunc("webhook-url", cobra.NoFileCompletions))
	return cmd
}

// preview is what the checks of a version found.
type preview struct {
	Validated *bool            `json:"validated"`
	LatencyMs float64          `json:"latencyMs"`
	Version   string           `json:"version"`
	ErrorCode domain.CheckCode `json:"errorCode"`
	Message   string           `json:"message"`
}

func previewRotation(ctx context.Context, s *streams, f rotateFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	client, err := f.client(s)
	if err != nil {
		return err
	}
	r := call{
		doing: "preview the rotation", method: http.MethodPost, path: previewPath, scope: domain.ScopeRotate,
		body: struct {
			SecretType string `json:"secretType"`
			Version    string `json:"gcpSecretVersion"`
			WebhookURL string `json:"dryRunWebhookUrl,omitempty"`
		}{f.secretType, f.version, f.webhookURL},
		invalid: "correct --version or --webhook-url",
	}
	var found preview
	document, err := client.get(ctx, r, &found)
	switch {
	case err != nil:
		return err
	case found.Validated == nil:
		return client.foreign(r)
	case s.json():
		err = s.printDocument(document)
	case *found.Validated:
		took := time.Duration(found.LatencyMs * float64(time.Millisecond)).Round(time.Millisecond)
		err = s.print(`Version %[1]s of %[2]s passed its checks, in %[3]s. Nothing was changed.

Next: omni-secrets rotate begin --secret-type %[2]s --version %[1]s%[4]s
`, oneLine(found.Version), f.secretType, took, f.again())
	}
	if err != nil || *found.Validated {
		return err
	}
	failed := &exitError{code: exitNotValid, err: fmt.Errorf("version %s of %s did not pass its checks: %s (%s)",
		f.version, f.secretType, oneLine(found.Message), oneLine(string(found.ErrorCode)))}
	return failed.try("%s", checkAdvice(found.ErrorCode))
}

// checkAdvice says what to do about a version that did not pass a check.
func checkAdvice(code domain.CheckCode) string {
	switch code {
	case domain.CheckVersionUnreadable:
		return "look in the backend whether this version exists and is enabled, and whether the server may read it"
	case domain.CheckVersionUnchanged, domain.CheckFormatMismatch, domain.CheckProbeRejected:
		return "add a version with another value to the backend, and preview that"
	case domain.CheckWebhookRejected:
		return "ask whoever runs the receiver: it does not have this value yet, or has another one"
	case domain.CheckWebhookForbidden, domain.CheckProbeForbidden:
		return "have the host added to OMNI_VALIDATION_ALLOWED_HOSTS of the server"
	case domain.CheckWebhookUnreachable, domain.CheckProbeUnreachable:
		return "nothing is known about the value: look at the other side and at the network between, then preview again"
	default:
		return "the server's log has the cause"
	}
}

func newRotateBeginCommand(s *streams) *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use:   "begin",
		Short: "Begin to rotate a secret to a version",
		Long: `Begins a rotation, if the version passes the checks of 'omni-secrets rotate preview'. What is served stays the same,
also when newer versions are added to the backend, until the rotation is promoted or aborted. One rotation of a secret
may be in progress.

With -o json it prints the row of the secret as the server sent it. The token needs the scope ops.omni.secrets.rotate.`,
		Example:           `  omni-secrets rotate begin --secret-type trading_api_key --version 8`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return beginRotation(cmd.Context(), s, f) },
	}
	f.registerVersion(cmd)
	return cmd
}

func beginRotation(ctx context.Context, s *streams, f rotateFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	row, err := f.step(ctx, s, f.secretType, call{
		doing: "begin the rotation", path: rotationsPath, invalid: "correct --version",
		body: map[string]string{"secretType": f.secretType, "gcpSecretVersion": f.version},
	})
	if err != nil || s.json() {
		return err
	}
	return s.print(`The rotation of %[1]s to version %[2]s has begun. %[3]s

Next:
  to serve version %[2]s:  omni-secrets rotate promote --secret-type %[1]s%[4]s
  to give it up:  omni-secrets rotate abort --secret-type %[1]s%[4]s
`, f.secretType, oneLine(row.RotatingToVersion), row.servedStill(), f.again())
}

// step takes one step of a rotation. It returns the row of the secret, which it has printed if JSON was asked for.
func (f *clientFlags) step(ctx context.Context, s *streams, secretType string, r call) (statusRow, error) {
	client, err := f.client(s)
	if err != nil {
		return statusRow{}, err
	}
	r.method, r.scope = http.MethodPost, domain.ScopeRotate
	var row statusRow
	document, err := client.get(ctx, r, &row)
	if err != nil {
		return row, orUnknownOutcome(err, "it may have been done all the same: look with 'omni-secrets rotate status' before you try again")
	}
	if row.SecretType != secretType {
		return row, client.foreign(r)
	}
	if s.json() {
		return row, s.printDocument(document)
	}
	return row, nil
}

// servedStill says what readers get, of a secret that got no new version.
func (r statusRow) servedStill() string {
	switch r.CacheSource {
	case domain.SourceEmpty:
		return "There is nothing to serve until then."
	case domain.SourceBreakGlass:
		return "An override is served."
	default:
		return "Version " + oneLine(r.CacheVersion) + " is served."
	}
}

// endStep is a way to end a rotation.
type endStep struct {
	use, short, long string
	doing            string
	counts           bool // as a rotation: it closes follow-ups
	says             func(secretType string, row statusRow) string
}

var promoteStep = endStep{
	use: "promote", short: "Serve the version that is rotated to",
	long: `Ends the rotation of a secret with success: the new version is read once more, and served from then on, on every
replica within a second. The next deadline counts from now, and follow-ups of overrides of this secret are closed. An
override that is in place stays on top.`,
	doing: "promote the rotation", counts: true,
	says: func(secretType string, row statusRow) string {
		text := fmt.Sprintf("Version %s of %s has been promoted", oneLine(row.PinnedVersion), secretType)
		if row.CacheSource == domain.SourceBreakGlass {
			return text + "; an override is served until " + instant(row.BreakGlassExpiresAt) + "."
		}
		return text + " and is served; by every replica within a second."
	},
}

var abortStep = endStep{
	use: "abort", short: "Give a rotation up",
	long: `Ends the rotation of a secret without a change: what was served when it began is served on, until a version
appears behind the catalog's alias that is newer than the one that was given up.`,
	doing: "abort the rotation",
	says: func(secretType string, row statusRow) string {
		return fmt.Sprintf("The rotation of %s has been given up. %s", secretType, row.servedStill())
	},
}

func newRotateEndCommand(s *streams, end endStep) *cobra.Command {
	var f clientFlags
	var secretType string
	cmd := &cobra.Command{
		Use:   end.use,
		Short: end.short,
		Long: end.long + `

With -o json it prints the row of the secret as the server sent it. The token needs the scope ops.omni.secrets.rotate.`,
		Example:           "  omni-secrets rotate " + end.use + " --secret-type trading_api_key",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSecretType(secretType); err != nil {
				return err
			}
			row, err := f.step(cmd.Context(), s, secretType, call{doing: end.doing, path: rotationsPath + "/" + secretType + "/" + end.use})
			if err != nil || s.json() {
				return err
			}
			said := end.says(secretType, row) + "\n" + row.nextDeadline()
			if end.counts {
				said += row.followUpsLeft()
			}
			return s.print("%s", said)
		},
	}
	f.register(cmd)
	secretTypeFlag(cmd, &secretType)
	return cmd
}

func (r statusRow) nextDeadline() string {
	if r.RotationDueAt == nil {
		return ""
	}
	return "The next rotation is due on " + r.rotation() + ".\n"
}

// followUpsLeft tells what is left of them after a rotation: it has closed those of overrides from before it.
func (r statusRow) followUpsLeft() string {
	return fmt.Sprintf("Follow-ups of %s that are open now: %d.\n", oneLine(r.SecretType), r.OpenFollowUps)
}

func newRotateDoneCommand(s *streams) *cobra.Command {
	var f clientFlags
	var secretType, at string
	cmd := &cobra.Command{
		Use:   "done",
		Short: "Record a rotation that was made elsewhere",
		Long: `Records when a secret was rotated, where the server cannot see it by a new version: the next deadline counts from
there, and follow-ups of overrides from before that time are closed.

--at takes an RFC 3339 time, or how long ago: 90m, 24h, 7d. Without it, the rotation was made just now,
by the server's clock.

With -o json it prints the row of the secret as the server sent it. The token needs the scope ops.omni.secrets.rotate.`,
		Example: `  omni-secrets rotate done --secret-type webhook_shared_secret
  omni-secrets rotate done --secret-type webhook_shared_secret --at 2026-03-01T09:30:00Z`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSecretType(secretType); err != nil {
				return err
			}
			rotated, err := pointInTime("at", at, time.Now())
			if err != nil {
				return err
			}
			row, err := f.step(cmd.Context(), s, secretType, call{
				doing: "record the rotation", path: rotationsPath + "/" + secretType + "/record",
				body: struct {
					RotatedAt string `json:"rotatedAt,omitempty"` // the server's now without it
				}{instantOrNone(rotated)},
				invalid: "'omni-secrets rotate status' shows the last rotation; give another --at, and compare the clocks",
			})
			if err != nil || s.json() {
				return err
			}
			return s.print("The rotation of %s at %s is recorded.\n%s%s", secretType, instant(row.LastRotatedAt), row.nextDeadline(), row.followUpsLeft())
		},
	}
	f.register(cmd)
	secretTypeFlag(cmd, &secretType)
	cmd.Flags().StringVar(&at, "at", "", "`TIME` of the rotation, not in the future")
	must(cmd.RegisterFlagCompletionFunc("at", cobra.NoFileCompletions))
	return cmd
}

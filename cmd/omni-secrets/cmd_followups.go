package main

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const followUpsPath = breakGlassPath + "/follow-ups"

// overrideIDPattern is the form of every override's id. What matches can stand in a path as it is.
var overrideIDPattern = regexp.MustCompile(`^bg-[A-Za-z0-9-]{1,64}$`)

// followUp is what an override has left to be done.
type followUp struct {
	OverrideID string     `json:"overrideId"`
	SecretType string     `json:"secretType"`
	OpenedAt   *time.Time `json:"openedAt"`
	AppliedBy  string     `json:"appliedBy"`
	Reason     string     `json:"reason"`
	Overdue    bool       `json:"overdue"`
}

func newFollowUpsCommand(s *streams) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "follow-ups",
		Short: "List what overrides have left to be done",
		Long: `Lists the follow-ups that are open, the oldest first. Every override opens one: the value that was injected is known
to more people and machines than before.

A rotation that is made after the override closes it: 'omni-secrets rotate promote', a new version that the server finds
behind the catalog's alias, or 'omni-secrets rotate done'. Where no rotation is needed, because a drill injected a made-up
value, 'omni-secrets breakglass follow-ups close' says so. OVERDUE are those that have been open for a day or longer;
the server logs an alert for each.

With -o json it prints what the server sent. The token needs the scope ops.omni.secrets.read.`,
		Example: `  omni-secrets breakglass follow-ups
  omni-secrets breakglass follow-ups -o json | jq -r '.data[] | select(.overdue) | .overrideId'`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return listFollowUps(cmd.Context(), s, f) },
	}
	f.register(cmd)
	cmd.AddCommand(newCloseFollowUpCommand(s))
	return cmd
}

func listFollowUps(ctx context.Context, s *streams, f clientFlags) error {
	client, err := f.client(s)
	if err != nil {
		return err
	}
	r := call{doing: "list follow-ups", method: http.MethodGet, path: followUpsPath, scope: domain.ScopeStatus}
	var page struct {
		Data []followUp `json:"data"`
	}
	document, err := client.get(ctx, r, &page)
	switch {
	case err != nil:
		return err
	case page.Data == nil:
		return client.foreign(r)
	case s.json():
		return s.printDocument(document)
	case len(page.Data) == 0:
		return s.print("No follow-up is open.\n")
	}
	t := table{columns: []string{"OVERRIDE", "TYPE", "OPENED", "OVERDUE", "APPLIED BY", "REASON"}}
	for _, one := range page.Data {
		overdue := ""
		if one.Overdue {
			overdue = "OVERDUE"
		}
		t.add(one.OverrideID, one.SecretType, instant(one.OpenedAt), overdue, one.AppliedBy, one.Reason)
	}
	return t.flush(s.out)
}

func newCloseFollowUpCommand(s *streams) *cobra.Command {
	var f clientFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "close OVERRIDE_ID --reason TEXT",
		Short: "Close a follow-up without a rotation",
		Long: `Closes the follow-up of an override without a rotation, for a reason that auditors will read: why the value that was
injected need not be rotated. It cannot be opened again. In the audit trail it is an event of the action write_metadata.

The token needs the scope ops.omni.secrets.breakglass.`,
		Example:           `  omni-secrets breakglass follow-ups close bg-4N2VVOJU2C4L5I4PXAMR2WVBLW --reason 'drill with a made-up value'`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !overrideIDPattern.MatchString(args[0]) { // not repeated: it may be something else
				return usageErrorf("give the id of one override, which begins with bg-").
					try("'omni-secrets breakglass follow-ups' lists them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return closeFollowUp(cmd.Context(), s, f, args[0], strings.TrimSpace(reason))
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for auditors: why no rotation is needed")
	return cmd
}

func closeFollowUp(ctx context.Context, s *streams, f clientFlags, overrideID, reason string) error {
	if reason == "" {
		return usageErrorf("--reason is missing").try("say why the injected value need not be rotated, such as --reason 'drill with a made-up value'")
	}
	if err := domain.CheckReason(reason); err != nil {
		return usageErrorf("--reason: %w", err)
	}
	client, err := f.client(s)
	if err != nil {
		return err
	}
	_, err = client.do(ctx, call{
		doing: "close the follow-up", method: http.MethodPost, path: followUpsPath + "/" + overrideID + "/close",
		body: map[string]string{"reason": reason}, scope: domain.ScopeBreakGlass,
		invalid: "give a --reason of one line, at most 500 characters",
	})
	if err != nil {
		return orUnknownOutcome(err, "it may be closed all the same: look with 'omni-secrets breakglass follow-ups'")
	}
	if s.json() {
		return s.printValue(struct {
			OverrideID string `json:"overrideId"`
			Closed     bool   `json:"closed"`
		}{overrideID, true})
	}
	return s.print("The follow-up of %s is closed.\n", overrideID)
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const auditPath = "/ops/apex-omni/secrets/audit-events"

// auditFlags are the flags of audit list.
type auditFlags struct {
	clientFlags
	secretType, action, actor, result, since, until string
	limit                                           int
	all                                             bool
}

// auditPage is a page of the audit trail; its events stay as the server sent them.
type auditPage struct {
	Data       []json.RawMessage `json:"data"`
	NextCursor string            `json:"nextCursor"`
}

func newAuditCommand(s *streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Look into the audit trail",
		Long:  `The audit trail has every read, refresh, override, rotation and refusal of the last 90 days.`,
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			return usageErrorf("audit needs a command: list, verify, checkpoints")
		},
	}
	cmd.AddCommand(newAuditListCommand(s), newAuditVerifyCommand(s), newAuditCheckpointsCommand(s))
	return cmd
}

func newAuditListCommand(s *streams) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List audit events, the newest first",
		Long: `Lists the audit events that match every given filter, the newest first. Without --all it shows one page.

--since and --until take an RFC 3339 time, or how long ago: 90m, 24h, 7d. --since is inclusive, --until is not.

A follow-up that was closed without a rotation is an event of the action write_metadata with the source break_glass.
What 'rotate done' recorded has the same action, with another source.

With -o json it prints {"data":[...],"nextCursor":...} with the events as the server sent them. When a listing
with --all fails half-way the exit code is not 0, and the JSON is incomplete.

The token needs the scope ops.omni.secrets.audit.`,
		Example: `  omni-secrets audit list --since 24h --action break_glass_apply
  omni-secrets audit list --result denied --limit 20
  omni-secrets audit list --secret-type trading_api_key --since 2026-01-01T00:00:00Z --all -o json > events.json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.all && !cmd.Flags().Changed("limit") {
				f.limit = domain.MaxEventPage
			}
			return auditList(cmd.Context(), s, f)
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	secretTypeFlag(cmd, &f.secretType)
	flags.StringVar(&f.action, "action", "", "only this `ACTION`: "+list(domain.Actions))
	flags.StringVar(&f.actor, "actor", "", "only the actor with this `ID`, the subject of its token")
	flags.StringVar(&f.result, "result", "", "only this `RESULT`: "+list(domain.Results))
	flags.StringVar(&f.since, "since", "", "only events recorded at or after this `TIME`")
	flags.StringVar(&f.until, "until", "", "only events recorded before this `TIME`")
	flags.IntVar(&f.limit, "limit", domain.DefaultEventPage,
		fmt.Sprintf("show at most `N` events, 1 to %d; with --all, how many to fetch at a time", domain.MaxEventPage))
	flags.BoolVar(&f.all, "all", false, "show every event that matches")
	must(cmd.RegisterFlagCompletionFunc("action", cobra.FixedCompletions(words(domain.Actions), cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("result", cobra.FixedCompletions(words(domain.Results), cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func auditList(ctx context.Context, s *streams, f auditFlags) error {
	query, err := f.query(time.Now())
	if err != nil {
		return err
	}
	client, err := f.client(s)
	if err != nil {
		return err
	}
	var to eventSink = newEventTable(s.out)
	if s.json() {
		to = &eventDocument{w: s.out}
	}
	seen := map[string]bool{}
	for {
		r := call{doing: "list audit events", method: http.MethodGet, path: auditPath, query: query, scope: domain.ScopeAudit}
		var page auditPage
		if _, err := client.get(ctx, r, &page); err != nil {
			return err
		}
		if err := to.events(page.Data); err != nil {
			return err
		}
		cursor := page.NextCursor
		if cursor == "" || !f.all {
			if cursor != "" && !s.json() {
				_, _ = fmt.Fprintln(s.err, "There are more: --all shows them, --since and the other filters narrow them down.")
			}
			return to.end(cursor)
		}
		if seen[cursor] {
			return failuref("list audit events: the server keeps sending the same page")
		}
		seen[cursor] = true
		query.Set("cursor", cursor)
	}
}

// query is the flags as the query of a request at now.
func (f auditFlags) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.secretType != "" {
		if err := checkSecretType(f.secretType); err != nil {
			return nil, err
		}
	}
	if err := oneOf("action", f.action, words(domain.Actions)); err != nil {
		return nil, err
	}
	if err := oneOf("result", f.result, words(domain.Results)); err != nil {
		return nil, err
	}
	set("secretType", f.secretType)
	set("action", f.action)
	set("actorId", f.actor)
	set("result", f.result)

	since, err := pointInTime("since", f.since, now)
	if err != nil {
		return nil, err
	}
	until, err := pointInTime("until", f.until, now)
	if err != nil {
		return nil, err
	}
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return nil, usageErrorf("--since must be before --until")
	}
	set("since", instantOrNone(since))
	set("until", instantOrNone(until))

	if f.limit < 1 || f.limit > domain.MaxEventPage {
		return nil, usageErrorf("--limit must be 1 to %d", domain.MaxEventPage)
	}
	set("limit", strconv.Itoa(f.limit))
	return q, nil
}

func instantOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

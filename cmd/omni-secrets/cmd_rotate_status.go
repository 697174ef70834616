package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
)

func newRotateStatusCommand(s *streams) *cobra.Command {
	var f clientFlags
	var secretType string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where each secret is in its rotation",
		Long: `Shows one line for each secret of the catalog, or the one of --secret-type:

  STATUS        active, rotating or deprecated
  SERVED        the version that readers get; an override's id while one is in place
  PINNED        the version that is served whatever the catalog's alias stands for, until that is newer
  ROTATING TO   the version of the rotation in progress; SINCE and BY say who began it and when
  DUE           the deadline, with due_soon or overdue where that is so

With -o json it prints what the server sent. The token needs the scope ops.omni.secrets.read.`,
		Example: `  omni-secrets rotate status
  omni-secrets rotate status --secret-type trading_api_key -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("secret-type") {
				if err := checkSecretType(secretType); err != nil {
					return err
				}
			}
			return rotateStatus(cmd.Context(), s, f, secretType)
		},
	}
	f.register(cmd)
	secretTypeFlag(cmd, &secretType)
	return cmd
}

// rotateStatus shows one secret, or all of them for "".
func rotateStatus(ctx context.Context, s *streams, f clientFlags, secretType string) error {
	client, err := f.client(s)
	if err != nil {
		return err
	}
	page, document, err := client.status(ctx, "read the status")
	if err != nil {
		return err
	}
	if secretType != "" {
		row, known := page.row(secretType)
		if !known {
			unknown := &exitError{code: exitNotFound, err: fmt.Errorf("the server has no secret %s", secretType)}
			return unknown.try("'omni-secrets rotate status' without --secret-type lists those that it has")
		}
		page.Data = []statusRow{row}
		if document, err = onlyRow(document, secretType); err != nil {
			return err
		}
	}
	if s.json() {
		return s.printDocument(document)
	}
	t := table{columns: []string{"TYPE", "STATUS", "SERVED", "PINNED", "ROTATING TO", "SINCE", "BY", "LAST ROTATED", "DUE"}}
	for _, r := range page.Data {
		t.add(r.SecretType, r.Status, r.CacheVersion, r.PinnedVersion, r.RotatingToVersion, instant(r.RotatingSince), r.RotatingBy,
			instant(r.LastRotatedAt), r.rotation())
	}
	return t.flush(s.out)
}

// onlyRow is a status document with one of its rows.
func onlyRow(document []byte, secretType string) ([]byte, error) {
	var page struct {
		Data      []json.RawMessage `json:"data"`
		UpdatedAt json.RawMessage   `json:"updatedAt"`
	}
	if err := json.Unmarshal(document, &page); err != nil {
		return nil, err
	}
	page.Data = slices.DeleteFunc(page.Data, func(raw json.RawMessage) bool {
		var r statusRow
		return json.Unmarshal(raw, &r) != nil || r.SecretType != secretType
	})
	return json.Marshal(page)
}

func newRotateDueCommand(s *streams) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "due",
		Short: "Show the calendar of rotations",
		Long: `Shows when each secret must be rotated, the next deadline first, by the server's clock: how many days are left, or for
how long it is overdue, and who has to do it. A deprecated secret is not rotated any more and has no deadline.

With -o json daysLeft counts whole days, rounded down: -1 as soon as it is overdue. The token needs the scope ops.omni.secrets.read.`,
		Example: `  omni-secrets rotate due
  omni-secrets rotate due -o json | jq -r '.data[] | select(.rotationState == "overdue") | .owner'`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return rotateDue(cmd.Context(), s, f) },
	}
	f.register(cmd)
	return cmd
}

// deadline is an entry of the calendar.
type deadline struct {
	SecretType    string     `json:"secretType"`
	Owner         string     `json:"owner"`
	Status        string     `json:"status"`
	RotationDueAt *time.Time `json:"rotationDueAt"`
	RotationState string     `json:"rotationState,omitempty"`
	DaysLeft      *int       `json:"daysLeft"` // whole days, rounded down
	LastRotatedAt *time.Time `json:"lastRotatedAt"`
}

func rotateDue(ctx context.Context, s *streams, f clientFlags) error {
	client, err := f.client(s)
	if err != nil {
		return err
	}
	page, _, err := client.status(ctx, "read the deadlines")
	if err != nil {
		return err
	}
	calendar := calendarOf(page)
	if s.json() {
		return s.printValue(struct {
			Data      []deadline `json:"data"`
			UpdatedAt time.Time  `json:"updatedAt"`
		}{calendar, page.UpdatedAt})
	}
	t := table{columns: []string{"DUE", "LEFT", "TYPE", "STATUS", "OWNER", "LAST ROTATED"}}
	for _, d := range calendar {
		due, left := "", ""
		if d.RotationDueAt != nil {
			due, left = d.RotationDueAt.UTC().Format(time.DateOnly), timeLeft(d.RotationDueAt.Sub(page.UpdatedAt))
		}
		t.add(due, left, d.SecretType, d.Status, d.Owner, instant(d.LastRotatedAt))
	}
	return t.flush(s.out)
}

// calendarOf lists the deadlines, the next one first and those without one at the end.
func calendarOf(page statusPage) []deadline {
	list := make([]deadline, 0, len(page.Data))
	for _, r := range page.Data {
		d := deadline{SecretType: r.SecretType, Owner: r.Owner, Status: r.Status, LastRotatedAt: r.LastRotatedAt}
		if r.RotationDueAt != nil && r.Status != string(domain.RotationDeprecated) {
			days := int(math.Floor(r.RotationDueAt.Sub(page.UpdatedAt).Hours() / 24))
			d.RotationDueAt, d.RotationState, d.DaysLeft = r.RotationDueAt, r.RotationState, &days
		}
		list = append(list, d)
	}
	slices.SortStableFunc(list, func(a, b deadline) int {
		switch {
		case a.RotationDueAt == nil && b.RotationDueAt == nil:
			return cmp.Compare(a.SecretType, b.SecretType)
		case a.RotationDueAt == nil:
			return 1
		case b.RotationDueAt == nil:
			return -1
		}
		return a.RotationDueAt.Compare(*b.RotationDueAt)
	})
	return list
}

// timeLeft is the time to a deadline in whole days, or closer to it in hours.
func timeLeft(d time.Duration) string {
	if d < 0 {
		return "OVERDUE by " + timeLeft(-d)
	}
	switch days := int(d / (24 * time.Hour)); days {
	case 0:
		return span(d)
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", days)
	}
}

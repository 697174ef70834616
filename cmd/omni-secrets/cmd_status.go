package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const statusPath = "/ops/apex-omni/secrets/status"

// statusPage is the part of the status document that this program uses. Times that do not apply are null.
type statusPage struct {
	Data      []statusRow `json:"data"`
	UpdatedAt time.Time   `json:"updatedAt"`
}

type statusRow struct {
	SecretType          string     `json:"secretType"`
	Status              string     `json:"status"`
	Owner               string     `json:"owner"`
	CacheSource         string     `json:"cacheSource"`
	CacheVersion        string     `json:"cacheVersion"`
	CacheAgeSeconds     *float64   `json:"cacheAgeSeconds"`
	Stale               bool       `json:"stale"`
	RotationDueAt       *time.Time `json:"rotationDueAt"`
	RotationState       string     `json:"rotationState"`
	BreakGlassExpiresAt *time.Time `json:"breakGlassExpiresAt"`
	ConsecutiveFailures int        `json:"consecutiveFailures"`
	LastFailureReason   string     `json:"lastFailureReason"`
	SurvivalSeconds     *float64   `json:"survivalSeconds"` // nil from a server that does not tell yet
	LastRotatedAt       *time.Time `json:"lastRotatedAt"`
	RotatingToVersion   string     `json:"rotatingToVersion"`
	RotatingSince       *time.Time `json:"rotatingSince"`
	RotatingBy          string     `json:"rotatingBy"`
	PinnedVersion       string     `json:"pinnedVersion"`
	OpenFollowUps       int        `json:"openFollowUps"`
}

func newStatusCommand(s *streams) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where each value comes from, its age and its rotation",
		Long: `Shows one line for each secret of the catalog, never a value:

  STATUS             active, rotating or deprecated; 'omni-secrets rotate status' shows more
  SOURCE             the backend's name, break_glass for an override, empty when there is nothing to serve
  AGE                since the value was fetched; STALE when it is served past its time, through an outage
  ROTATION DUE       the deadline, with due_soon or overdue where that is so
  BREAK-GLASS UNTIL  when the override ends
  FAILURES           fetches that failed in a row, and why the last one did

With -o json it prints what the server sent, which has more fields: survivalSeconds, for one, is how long
something would still be served if the backend went away now. The token needs the scope ops.omni.secrets.read.`,
		Example: `  omni-secrets status --api-url $API --token $OPS_JWT
  omni-secrets status -o json | jq -r '.data[] | select(.stale) | .secretType'`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return status(cmd.Context(), s, f) },
	}
	f.register(cmd)
	return cmd
}

func status(ctx context.Context, s *streams, f clientFlags) error {
	client, err := f.client(s)
	if err != nil {
		return err
	}
	page, document, err := client.status(ctx, "read the status")
	if err != nil {
		return err
	}
	if s.json() {
		return s.printDocument(document)
	}
	t := table{columns: []string{"TYPE", "STATUS", "SOURCE", "VERSION", "AGE", "STALE", "ROTATION DUE", "BREAK-GLASS UNTIL", "FAILURES"}}
	for _, r := range page.Data {
		t.add(r.SecretType, r.Status, r.CacheSource, r.CacheVersion, r.age(), r.stale(), r.rotation(), r.override(page.UpdatedAt), r.failures())
	}
	if err := t.flush(s.out); err != nil {
		return err
	}
	open := 0
	for _, r := range page.Data {
		open += r.OpenFollowUps
	}
	if open > 0 {
		_, _ = fmt.Fprintf(s.err, "Open follow-ups of overrides: %d. 'omni-secrets breakglass follow-ups' lists them.\n", open)
	}
	return nil
}

// status reads the status, as values and as the document that the server sent.
func (c *apiClient) status(ctx context.Context, doing string) (statusPage, []byte, error) {
	r := call{doing: doing, method: http.MethodGet, path: statusPath, scope: domain.ScopeStatus}
	var page statusPage
	document, err := c.get(ctx, r, &page)
	if err != nil {
		return statusPage{}, nil, err
	}
	if page.Data == nil {
		return statusPage{}, nil, c.foreign(r)
	}
	return page, document, nil
}

func (p statusPage) row(secretType string) (statusRow, bool) {
	for _, r := range p.Data {
		if r.SecretType == secretType {
			return r, true
		}
	}
	return statusRow{}, false
}

func (r statusRow) age() string {
	if r.CacheAgeSeconds == nil || r.CacheSource == domain.SourceEmpty {
		return ""
	}
	return span(time.Duration(*r.CacheAgeSeconds * float64(time.Second)))
}

func (r statusRow) stale() string {
	if r.Stale {
		return "STALE"
	}
	return ""
}

func (r statusRow) rotation() string {
	if r.RotationDueAt == nil {
		return ""
	}
	due := r.RotationDueAt.UTC().Format(time.DateOnly)
	if r.RotationState == "" || r.RotationState == string(domain.RotationCurrent) {
		return due
	}
	return fmt.Sprintf("%s (%s)", due, r.RotationState)
}

// override tells the time that is left by the server's clock, which decides when the override ends.
func (r statusRow) override(now time.Time) string {
	if r.BreakGlassExpiresAt == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s left)", instant(r.BreakGlassExpiresAt), span(r.BreakGlassExpiresAt.Sub(now)))
}

func (r statusRow) failures() string {
	if r.ConsecutiveFailures == 0 {
		return ""
	}
	if r.LastFailureReason == "" {
		return strconv.Itoa(r.ConsecutiveFailures)
	}
	return fmt.Sprintf("%d (%s)", r.ConsecutiveFailures, r.LastFailureReason)
}

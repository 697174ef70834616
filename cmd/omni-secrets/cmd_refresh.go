package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const refreshPath = "/internal/apex-omni/secrets/cache/refresh"

// refreshed is the answer to a refresh.
type refreshed struct {
	RequestID            string         `json:"requestId"`
	RefreshedSecretTypes []string       `json:"refreshedSecretTypes"`
	Failures             []fetchFailure `json:"failures"`
}

func newRefreshCommand(s *streams) *cobra.Command {
	var f clientFlags
	var secretType string
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Have the server fetch secrets from their backend now",
		Long: `Has the server fetch every secret of the catalog from its backend, or the one of --secret-type, whatever its age.
A fetch that succeeds ends a break-glass override of that secret.

A refresh that fails leaves overrides and values in place, except that not_found and version_disabled evict the value
at once: readers get 503 then, unless an override is in place.

The command fails unless everything was refreshed. The token needs the scope svc.omni.secrets.cache.`,
		Example: `  omni-secrets refresh --api-url $API --token $SERVICE_TOKEN
  omni-secrets refresh --secret-type webhook_shared_secret`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("secret-type") {
				if err := checkSecretType(secretType); err != nil {
					return err
				}
			}
			return refresh(cmd.Context(), s, f, secretType)
		},
	}
	f.register(cmd)
	secretTypeFlag(cmd, &secretType)
	return cmd
}

// refresh refreshes one secret, or all of them for "".
func refresh(ctx context.Context, s *streams, f clientFlags, secretType string) error {
	client, err := f.client(s)
	if err != nil {
		return err
	}
	r := call{doing: "refresh the cache", method: http.MethodPost, path: refreshPath, scope: domain.ScopeCacheRefresh}
	if secretType != "" {
		r.body = map[string]string{"secretType": secretType}
	}
	var answer refreshed
	document, err := client.get(ctx, r, &answer)
	if err != nil {
		return errors.Join(err, s.printFailures(err))
	}
	if s.json() {
		err = s.printDocument(document)
	} else {
		err = s.printRefreshed(answer)
	}
	if err != nil {
		return err
	}
	if failed := len(answer.Failures); failed > 0 {
		return failuref("%d of %d secrets could not be refreshed%s", failed, failed+len(answer.RefreshedSecretTypes), evictions(answer.Failures)).
			try("%s; the server's log has each cause under %s", refreshAdvice(answer.Failures), domain.AlertCacheFailure)
	}
	return nil
}

// evictions names the secrets whose value was taken out of memory.
func evictions(failures []fetchFailure) string {
	var evicted []string
	for _, f := range failures {
		if f.evicted() {
			evicted = append(evicted, oneLine(f.SecretType))
		}
	}
	if len(evicted) == 0 {
		return ""
	}
	return "; without a value now, unless an override is in place: " + strings.Join(evicted, ", ")
}

func (s *streams) printRefreshed(answer refreshed) error {
	t := table{columns: []string{"TYPE", "RESULT"}}
	for _, secretType := range answer.RefreshedSecretTypes {
		t.add(secretType, "refreshed")
	}
	for _, failure := range answer.Failures {
		t.add(failure.SecretType, "failed: "+failure.Reason)
	}
	return t.flush(s.out)
}

// printFailures lists what a refusal says about single secrets.
func (s *streams) printFailures(err error) error {
	refused, ok := errors.AsType[*refusalError](err)
	if !ok || len(refused.problem.Failures) == 0 {
		return nil
	}
	if s.json() {
		return s.printValue(refreshed{RequestID: refused.problem.RequestID, RefreshedSecretTypes: []string{}, Failures: refused.problem.Failures})
	}
	return s.printRefreshed(refreshed{Failures: refused.problem.Failures})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const readPath = "/internal/apex-omni/secrets/"

// served is the part of a read's answer that this program uses. A value that is not text comes as base64.
type served struct {
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"valueBase64"`
	Source      string  `json:"source"`
	Stale       bool    `json:"stale"`
}

func newGetCommand(s *streams) *cobra.Command {
	var f clientFlags
	var secretType, out string
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Print the value of a secret",
		Long: `Prints the value of a secret as the server serves it now, byte for byte; on a terminal a newline follows.
With -o json it prints what the server sent, with version, source and age.

Programs read the REST or the Connect API; this is for people and for scripts. The read is audited under the
subject of the token, which needs the scope svc.omni.secrets.read and a subject among the secret's readers.`,
		Example: `  omni-secrets get --secret-type webhook_shared_secret --api-url $API --token $SERVICE_TOKEN
  omni-secrets get --secret-type zk_signing_seed --out ./seed`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return get(cmd.Context(), s, f, secretType, out)
		},
	}
	f.register(cmd)
	secretTypeFlag(cmd, &secretType)
	cmd.Flags().StringVar(&out, "out", "", "write to `FILE`, which only you can read, in place of standard output")
	return cmd
}

// get prints a value to standard output, or writes it to out if that is not "".
func get(ctx context.Context, s *streams, f clientFlags, secretType, out string) error {
	if err := checkSecretType(secretType); err != nil {
		return err
	}
	client, err := f.client(s)
	if err != nil {
		return err
	}
	r := call{doing: "read the secret", method: http.MethodGet, path: readPath + secretType, scope: domain.ScopeRead}
	var answer served
	document, err := client.get(ctx, r, &answer)
	if err != nil {
		return err
	}
	content := answer.ValueBase64
	if answer.Value != nil {
		content = []byte(*answer.Value)
	}
	if len(content) == 0 {
		return client.foreign(r)
	}
	if answer.Stale {
		s.warn("the value is stale: its backend cannot be reached, or no longer gives it out")
	}
	if s.json() {
		content = withNewline(document)
	}
	if out != "" {
		return writePrivately(out, content)
	}
	return writeContent(s.out, content, isTerminal(s.out))
}

// writeContent writes content as it is, with a newline at its end on a terminal.
func writeContent(w io.Writer, content []byte, terminal bool) error {
	if terminal {
		content = withNewline(content)
	}
	_, err := w.Write(content)
	return printed(err)
}

// writePrivately puts content into a file that only its owner can read, whatever the file there was before.
// The file is replaced as a whole or not at all.
func writePrivately(path string, content []byte) error {
	if about, err := os.Lstat(path); err == nil && !about.Mode().IsRegular() {
		return usageErrorf("--out: %s is there already and is not a regular file", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return usageErrorf("--out: %w", err)
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(file.Name())))
	}
	return nil
}

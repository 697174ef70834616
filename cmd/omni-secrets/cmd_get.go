package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	readPath     = "/internal/apex-omni/secrets/"
	staleWarning = "%s is stale: its backend cannot be reached, or no longer gives it out"
)

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
	var watching bool
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Print the value of a secret",
		Long: `Prints the value of a secret as the server serves it now, byte for byte; on a terminal a newline follows.
With -o json it prints what the server sent, with version, source and age.

With --watch it prints the value, and each new one as it comes, until it is interrupted: a value and a newline each,
or with -o json one document a line, which has a code and a detail in place of a value when there is none. With --out
the file is replaced each time, and stays as it is when there is no value. That the value is stale, gone, or cannot be
followed for a while is said on standard error. A --token-file is read again whenever a token is needed.

Programs read the REST or the Connect API; this is for people and for scripts. 'omni-secrets exec' runs a program
with secrets in its environment or in files.

The read is audited under the subject of the token, which needs the scope svc.omni.secrets.read and a subject among
the secret's readers.`,
		Example: `  omni-secrets get --secret-type webhook_shared_secret --api-url $API --token $SERVICE_TOKEN
  omni-secrets get --secret-type zk_signing_seed --out ./seed
  omni-secrets get --secret-type trading_api_key --watch -o json --token-file ./token`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watching {
				return watch(cmd.Context(), s, f, secretType, out)
			}
			return get(cmd.Context(), s, f, secretType, out)
		},
	}
	f.register(cmd)
	secretTypeFlag(cmd, &secretType)
	cmd.Flags().StringVar(&out, "out", "", "write to `FILE`, which only you can read, in place of standard output")
	cmd.Flags().BoolVar(&watching, "watch", false, "print every new value too, until interrupted")
	return cmd
}

// get prints a value to standard output, or writes it to out if that is not "".
func get(ctx context.Context, s *streams, f clientFlags, secretType, out string) error {
	if err := checkSecretType(secretType); err != nil {
		return err
	}
	api, err := f.client(s)
	if err != nil {
		return err
	}
	r := call{doing: "read the secret", method: http.MethodGet, path: readPath + secretType, scope: domain.ScopeRead}
	var answer served
	document, err := api.get(ctx, r, &answer)
	if err != nil {
		return err
	}
	content := answer.ValueBase64
	if answer.Value != nil {
		content = []byte(*answer.Value)
	}
	if len(content) == 0 {
		return api.foreign(r)
	}
	if answer.Stale {
		s.warn(staleWarning, "the value")
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

// lookEvery is how often a watch looks whether its value has become stale, of which the client does not tell.
const lookEvery = time.Second

// watch prints a value, and each new one, until ctx is done.
func watch(ctx context.Context, s *streams, f clientFlags, secretType, out string) error {
	if err := checkSecretType(secretType); err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	failed := f.newFailureWarnings(s)
	following, err := f.follow(s, []string{secretType}, func(client.Change) {
		select {
		case changed <- struct{}{}:
		default: // nobody has looked since the last one yet
		}
	}, failed)
	if err != nil {
		return err
	}
	defer following.Close()
	within, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	secret, err := following.Get(within, secretType)
	if err != nil && (within.Err() != nil || !saysNone(err)) {
		return f.readError(ctx, secretType, err, failed)
	}
	failed.show()
	w := &watcher{s: s, secretType: secretType, out: out}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if err := w.show(secret, err); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		secret, err = following.Get(ctx, secretType)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// saysNone reports whether err is the server's word that there is no value now.
func saysNone(err error) bool {
	switch errorCode(err) {
	case client.CodeUnavailable, client.CodeWithdrawn, client.CodeOverrideEnded:
		return true
	default:
		return false
	}
}

// watcher prints the states of one secret.
type watcher struct {
	s          *streams
	secretType string
	out        string // a file, or ""

	began bool
	last  client.Secret // the one that was printed last
	gone  string        // the code of the error that was printed after it; "" for none
}

// show prints a state, the secret or why there is none, if it is not the one that was printed last.
func (w *watcher) show(secret client.Secret, gone error) error {
	if gone != nil {
		return w.showGone(gone)
	}
	known := w.began && w.last.Version == secret.Version && w.last.Source == secret.Source &&
		w.last.Value.Equal(secret.Value)
	if known && w.gone == "" && w.last.Stale == secret.Stale {
		return nil
	}
	if secret.Stale {
		w.s.warn(staleWarning, "the value")
	}
	back := w.gone != ""
	w.began, w.last, w.gone = true, secret, ""
	switch content := secret.Value.Reveal(); {
	case w.s.json():
		return w.write(stateDocument(secret))
	case known && !back:
		return nil
	case w.out != "":
		return w.write(content, nil)
	default:
		return w.write(append(bytes.Clone(content), '\n'), nil)
	}
}

// showGone says once why there is no value. A file stays as it is: whoever reads it goes on with what it has.
func (w *watcher) showGone(why error) error {
	code := errorCode(why)
	if w.gone == code {
		return nil
	}
	w.gone = code
	w.s.warn("%s has no value now: %s", w.secretType, oneLine(errorDetail(why)))
	if !w.s.json() || w.out != "" {
		return nil
	}
	return w.write(documentLine(struct {
		SecretType string `json:"secretType"`
		Code       string `json:"code"`
		Detail     string `json:"detail"`
	}{w.secretType, code, errorDetail(why)}))
}

// write writes what was made without an error.
func (w *watcher) write(content []byte, err error) error {
	if err != nil {
		return err
	}
	if w.out != "" {
		return writePrivately(w.out, content)
	}
	_, err = w.s.out.Write(content)
	return printed(err)
}

// stateDocument has the names that the REST API has for the same.
func stateDocument(secret client.Secret) ([]byte, error) {
	document := struct {
		SecretType  string  `json:"secretType"`
		Value       *string `json:"value,omitempty"`
		ValueBase64 []byte  `json:"valueBase64,omitempty"`
		Version     string  `json:"version"`
		Source      string  `json:"source"`
		Stale       bool    `json:"stale"`
	}{SecretType: secret.Type, Version: secret.Version, Source: secret.Source, Stale: secret.Stale}
	if plaintext := secret.Value.Reveal(); utf8.Valid(plaintext) {
		text := string(plaintext)
		document.Value = &text
	} else {
		document.ValueBase64 = plaintext
	}
	return documentLine(document)
}

// documentLine is one line of JSON.
func documentLine(v any) ([]byte, error) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return line.Bytes(), err
}

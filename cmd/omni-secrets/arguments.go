package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// secretTypePattern is the form of every secret type; which ones exist the server knows. What matches can
// stand in a path as it is.
var secretTypePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

func secretTypeFlag(cmd *cobra.Command, secretType *string) {
	cmd.Flags().StringVar(secretType, "secret-type", "", "the secret's `TYPE`, such as trading_api_key")
	must(cmd.RegisterFlagCompletionFunc("secret-type", cobra.NoFileCompletions))
}

// checkSecretType is nil for the form of a secret type.
func checkSecretType(secretType string) error {
	switch suggestion := strings.ToLower(strings.ReplaceAll(secretType, "-", "_")); {
	case secretType == "":
		return usageErrorf("--secret-type is missing").try("'omni-secrets status' lists the secret types")
	case secretTypePattern.MatchString(secretType):
		return nil
	case secretTypePattern.MatchString(suggestion):
		return usageErrorf("--secret-type %q is no secret type", secretType).try("did you mean %s?", suggestion)
	default:
		return usageErrorf("--secret-type: a secret type has lower-case letters, digits and underscores only").
			try("'omni-secrets status' lists the secret types")
	}
}

// noArguments refuses arguments without repeating them: one may be a token or a value whose flag was forgotten.
func noArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasSubCommands():
		return suggest(cmd, usageErrorf("%q has no such command", cmd.CommandPath()), args)
	case cmd.Flags().Lookup("secret-type") != nil:
		return usageErrorf("%q takes flags only; something else was given", cmd.CommandPath()).try("name the secret by --secret-type TYPE")
	default:
		return usageErrorf("%q takes flags only; something else was given", cmd.CommandPath()).try("every argument has a flag before it")
	}
}

// suggest says which command may have been meant, if one of the words resembles it.
func suggest(cmd *cobra.Command, err *exitError, words []string) *exitError {
	cmd.SuggestionsMinimumDistance = 2
	for _, word := range words {
		if similar := cmd.SuggestionsFor(word); len(similar) > 0 {
			return err.try("did you mean '%s %s'?", cmd.CommandPath(), similar[0])
		}
	}
	return err
}

// oneOf is nil for a known value of a flag, and for none.
func oneOf(flag, value string, known []string) error {
	if value == "" || slices.Contains(known, value) {
		return nil
	}
	return usageErrorf("--%s %q is not known", flag, value).try("it is one of %s", strings.Join(known, ", "))
}

// pointInTime reads an RFC 3339 time, or how long before now one was: a Go duration, or days such as 7d. An
// empty text is the zero time.
func pointInTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		if year := at.UTC().Year(); year < 0 || year > 9999 { // it is sent in UTC, and RFC 3339 has no such year
			return time.Time{}, usageErrorf("--%s %q is too far from now", flag, text)
		}
		return at, nil
	}
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 15)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return time.Time{}, usageErrorf("--%s %q is neither a time nor a duration", flag, text).
			try("give a time such as %s, or how long ago: 90m, 24h, 7d", now.UTC().Format(time.RFC3339))
	}
	return now.Add(-ago), nil
}

func words[T ~string](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

func list[T ~string](values []T) string { return strings.Join(words(values), ", ") }

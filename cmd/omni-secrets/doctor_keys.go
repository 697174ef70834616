package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/gsm"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const breakGlassCheck = "break-glass"

// readSecretKeys fetches the private keys that are in a secret, as a server does at its start.
func readSecretKeys(ctx context.Context, c *config) error {
	if c.Keys.BreakGlassSecret == "" || c.breakGlass == nil {
		return nil
	}
	backend, err := openBackend(ctx, *c, gsm.Name)
	if err != nil {
		return err
	}
	texts, err := fetchKeys(ctx, backend, c.Keys.BreakGlassSecret)
	if err == nil {
		err = c.useBreakGlassKeys(texts)
	}
	return errors.Join(err, backend.Close())
}

// checkKeyPair compares the public key that operators encrypt with to the server's private keys.
func checkKeyPair(ctx context.Context, c *config, public string) finding {
	const check = breakGlassCheck
	if c.BreakGlassKey.IsZero() && c.Keys.BreakGlassFile == "" && c.Keys.BreakGlassSecret == "" {
		return found(check, verdictWarning, "%s is not set, nor its file or secret: no override can be applied", privateKeyEnv).
			try("'omni-secrets keygen' makes a pair; give the server the private key, and the public key to those on call")
	}
	err := c.readBreakGlassKey()
	if err == nil {
		if err := readSecretKeys(ctx, c); err != nil {
			return found(check, verdictFailed, "%s: %v", privateKeySecretEnv, err).
				try("without the key a server that starts now refuses overrides; let it read the secret, or give it the key in a file")
		}
	}
	if err != nil {
		return found(check, verdictFailed, "%v", err).
			try("take it from where the server's keys are kept; 'omni-secrets keygen' makes a new pair")
	}
	current, previous := c.Keys.breakGlass[0].Public(), c.Keys.breakGlass[1:]
	ids := "its id is " + current.ID()
	if len(previous) > 0 {
		ids += fmt.Sprintf(", and the server has %d previous: %s", len(previous), strings.Join(c.breakGlass.KeyIDs()[1:], " "))
	}
	if public == "" {
		return found(check, verdictOK, "the public key of the private key here is %s; %s; %s is not set here, compare it where it is", current, ids, publicKeyEnv)
	}
	given, err := envelope.ParsePublicKey(public)
	if err != nil {
		return found(check, verdictFailed, "%s: %v", publicKeyEnv, err).try("set it to %s", current)
	}
	if given.String() == current.String() {
		return found(check, verdictOK, "the two keys are a pair; %s", ids)
	}
	for _, key := range previous {
		if given.String() == key.Public().String() {
			return found(check, verdictWarning, "%s is that of the previous key %s, which still opens envelopes", publicKeyEnv, given.ID()).
				try("set %s to %s, here and for those on call, before the previous key is taken away", publicKeyEnv, current)
		}
	}
	return found(check, verdictFailed, "%s does not belong to %s: overrides would be refused", publicKeyEnv, privateKeyEnv).
		try("set %s to %s, here and for those on call; if that is not the key that they have, the server has the wrong private key", publicKeyEnv, current)
}

// checkOverrides tells which open overrides the keys here do not open, and which need a previous key. It comes after
// checkKeyPair, and says nothing when there is nothing open.
func checkOverrides(ctx context.Context, c *config) []finding {
	if c.breakGlass == nil || len(c.breakGlass.KeyIDs()) == 0 || checkDatabaseURL(c.DatabaseURL) != nil {
		return nil
	}
	db, err := inspectDatabase(ctx, c.DatabaseURL)
	if err != nil || db.CheckSchema(ctx) != nil { // which the check of the database says
		if err == nil {
			_ = db.Close()
		}
		return nil
	}
	defer db.Close()
	open, err := db.OpenOverrides(ctx)
	if err != nil {
		return []finding{found(breakGlassCheck, verdictFailed, "which overrides are open is not known: %v", err)}
	}
	var findings []finding
	for _, o := range open {
		if o.ActiveAt(time.Now()) {
			findings = append(findings, checkOverride(c, o)...)
		}
	}
	return findings
}

func checkOverride(c *config, o domain.Override) []finding {
	opened, err := c.breakGlass.Open(o.Envelope)
	until := instant(&o.ExpiresAt)
	if err != nil {
		return []finding{found(breakGlassCheck, verdictFailed, "the override %s cannot be opened with the keys here (%v): a server that starts now does not serve it", o.ID, err).
			of(o.Envelope.Type).try("give the server the key that it was sealed for as a previous one, until %s; or apply the override anew", until)}
	}
	if opened.KeyID != c.breakGlass.KeyIDs()[0] {
		return []finding{found(breakGlassCheck, verdictWarning, "the open override %s needs the previous key %s", o.ID, opened.KeyID).
			of(o.Envelope.Type).try("keep that key until %s, when the override ends", until)}
	}
	return nil
}

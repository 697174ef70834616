package validator

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// SignatureHeader holds "t=<unix seconds>,v1=<hex>": HMAC-SHA256 over "<t>.<body>" with the candidate value as key.
const SignatureHeader = "Omni-Signature"

// notice is the body of a webhook. docs/api.md tells receivers what to do with it.
type notice struct {
	SecretType  domain.SecretType `json:"secretType"`
	Version     string            `json:"version"`
	RequestedAt string            `json:"requestedAt"`
	Nonce       string            `json:"nonce"`
}

func (v *Validator) webhook(ctx context.Context, rule domain.WebhookRule, c domain.Candidate) error {
	now := time.Now().UTC()
	body, err := json.Marshal(notice{c.Type, c.Version, now.Format("2006-01-02T15:04:05.000Z"), rand.Text()})
	if err != nil {
		return fmt.Errorf("write the webhook's body: %w", err)
	}
	return v.send(ctx, check{
		domain.CheckWebhook, domain.CheckWebhookRejected, domain.CheckWebhookUnreachable, domain.CheckWebhookForbidden,
	}, request{
		method: http.MethodPost, url: rule.URL, timeout: rule.Timeout, body: body,
		header: http.Header{"Content-Type": {"application/json"}, SignatureHeader: {sign(now, body, c.Value)}},
	}, func(status int) bool { return status/100 == 2 })
}

func sign(at time.Time, body []byte, key domain.Value) string {
	mac := hmac.New(sha256.New, key.Reveal())
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

package http

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

type refreshRequest struct {
	SecretType *string `json:"secretType"`
}

type refreshResponse struct {
	RequestID            string              `json:"requestId"`
	RefreshedSecretTypes []domain.SecretType `json:"refreshedSecretTypes"`
	Failures             []refreshFailure    `json:"failures"`
}

type refreshFailure struct {
	SecretType domain.SecretType `json:"secretType"`
	Reason     domain.Reason     `json:"reason"`
}

func failuresOf(failures []service.RefreshFailure) []refreshFailure {
	list := make([]refreshFailure, 0, len(failures))
	for _, f := range failures {
		list = append(list, refreshFailure{f.Type, f.Reason})
	}
	return list
}

func (a *api) refresh(w http.ResponseWriter, r *http.Request, call service.Call) error {
	if err := a.Service.Authorize(r.Context(), call, domain.ScopeCacheRefresh, ""); err != nil {
		return err
	}
	var body refreshRequest
	if err := decode(w, r, &body, "secretType"); err != nil {
		return err
	}
	var t domain.SecretType
	if body.SecretType != nil {
		if t = domain.SecretType(*body.SecretType); t == "" {
			return invalid("secretType is empty; leave it out to refresh the whole catalog")
		}
	}
	done, err := a.Service.Refresh(r.Context(), call, t)
	if err != nil && len(done.Failures) > 0 {
		a.problem(w, r, err, done.Failures)
		return nil
	}
	if err != nil {
		return err
	}
	types := done.Types
	if types == nil {
		types = []domain.SecretType{}
	}
	a.answer(w, r, http.StatusAccepted, refreshResponse{call.RequestID, types, failuresOf(done.Failures)})
	return nil
}

type secretResponse struct {
	SecretType  domain.SecretType `json:"secretType"`
	Value       *string           `json:"value,omitempty"`
	ValueBase64 *string           `json:"valueBase64,omitempty"`
	Version     string            `json:"version"`
	Source      string            `json:"source"`
	FetchedAt   timestamp         `json:"fetchedAt"`
	ExpiresAt   timestamp         `json:"expiresAt"`
	AgeSeconds  float64           `json:"ageSeconds"`
	Stale       bool              `json:"stale"`
}

func (a *api) read(w http.ResponseWriter, r *http.Request, call service.Call) error {
	s, err := a.Service.Read(r.Context(), call, domain.SecretType(r.PathValue("secretType")))
	if err != nil {
		return err
	}
	now := time.Now()
	header := w.Header()
	header.Set("Vary", "Accept")
	tag := `"` + s.Source + "-" + s.Version + `"`
	raw := accepts(r, "application/octet-stream")
	if !raw {
		tag = "W/" + tag // the age in the JSON changes without a new version
	}
	header.Set("ETag", tag)
	if matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if raw {
		header.Set("Content-Type", "application/octet-stream")
		header.Set("Content-Length", strconv.Itoa(len(s.Value.Reveal())))
		header.Set("Omni-Secret-Version", s.Version)
		header.Set("Omni-Secret-Source", s.Source)
		header.Set("Omni-Secret-Stale", strconv.FormatBool(s.Stale))
		_, err := w.Write(s.Value.Reveal())
		if err != nil {
			a.Logger.DebugContext(r.Context(), "the client went away before the answer was written", "err", err)
		}
		return nil
	}
	body := secretResponse{
		SecretType: s.Type, Version: s.Version, Source: s.Source,
		FetchedAt: timestamp(s.FetchedAt), ExpiresAt: timestamp(s.ExpiresAt),
		AgeSeconds: seconds(s.Age(now)), Stale: s.Stale,
	}
	if plaintext := s.Value.Reveal(); utf8.Valid(plaintext) {
		text := string(plaintext)
		body.Value = &text
	} else {
		text := base64.StdEncoding.EncodeToString(plaintext)
		body.ValueBase64 = &text
	}
	a.answer(w, r, http.StatusOK, body)
	return nil
}

// accepts reports whether the Accept header names the media type itself; wildcards ask for the JSON.
func accepts(r *http.Request, mediaType string) bool {
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			name, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), mediaType) {
				return true
			}
		}
	}
	return false
}

// matches is the weak comparison of RFC 9110, section 13.1.2.
func matches(ifNoneMatch, tag string) bool {
	if strings.TrimSpace(ifNoneMatch) == "*" {
		return true
	}
	for one := range strings.SplitSeq(ifNoneMatch, ",") {
		if strings.TrimPrefix(strings.TrimSpace(one), "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

// timestamp is written as JavaScript's toISOString does: UTC, milliseconds, Z. The zero time is null.
type timestamp time.Time

func (t timestamp) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return []byte(time.Time(t).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

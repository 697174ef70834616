package http

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

type refreshRequest struct {
	SecretType **string `json:"secretType"` // so that null, which sets the outer pointer, is told from no field
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
	body := refreshRequest{new(*string)}
	if err := decode(w, r, &body, "secretType"); err != nil {
		return err
	}
	if body.SecretType == nil {
		return invalid("secretType is null; leave it out to refresh the whole catalog")
	}
	var t domain.SecretType
	if name := *body.SecretType; name != nil {
		if t = domain.SecretType(*name); t == "" {
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

func (a *api) read(w http.ResponseWriter, r *http.Request, call service.Call) error {
	s, err := a.Service.Read(r.Context(), call, domain.SecretType(r.PathValue("secretType")))
	if err != nil {
		return err
	}
	header := w.Header()
	header["Vary"] = varyAccept
	tag := `W/"` + s.Source + "-" + s.Version + `"` // weak: the age in the JSON changes without a new version
	raw := accepts(r, "application/octet-stream")
	if raw {
		tag = tag[len("W/"):]
	}
	header["Etag"] = []string{tag} // net/http's spelling, which Set would look for each time
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
		_, err = w.Write(s.Value.Reveal())
	} else {
		header["Content-Type"] = applicationJSON
		err = writeSecret(w, s, time.Now())
	}
	if err != nil {
		a.Logger.DebugContext(r.Context(), "the client went away before the answer was written", "err", err)
	}
	return nil
}

// accepts reports whether the Accept header names the media type itself; wildcards ask for the JSON.
func accepts(r *http.Request, mediaType string) bool {
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			name, parameters, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), mediaType) {
				return !refused(parameters)
			}
		}
	}
	return false
}

// refused reports whether the parameters of a media type say that it is not acceptable: a weight of 0.
func refused(parameters string) bool {
	for one := range strings.SplitSeq(parameters, ";") {
		name, weight, _ := strings.Cut(one, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
			return err == nil && q == 0
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
	return t.append(nil), nil
}

// append appends the JSON string. RFC 3339 without a fraction is a layout that package time writes fast, unlike any with
// milliseconds.
func (t timestamp) append(b []byte) []byte {
	utc := time.Time(t).UTC()
	b = append(b, '"')
	b = utc.AppendFormat(b, time.RFC3339)
	b = b[:len(b)-len("Z")]
	const digits = "0123456789"
	ms := utc.Nanosecond() / int(time.Millisecond)
	return append(b, '.', digits[ms/100], digits[ms/10%10], digits[ms%10], 'Z', '"')
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxControlBody is the largest JSON body of the control API.
const maxControlBody = 4 << 10

// Control is the HTTP API by which drills and scripts steer the server. It asks for no credentials: keep it on
// a loopback address.
//
//	GET    /healthz                                            ok
//	GET    /state                                              State; never a payload
//	POST   /faults                                             {"mode", "secret"?, "rate"?, "delayMs"?} puts a Fault in force
//	DELETE /faults                                             ends all faults
//	PUT    /secrets/{project}/{secret}                         the raw body becomes a version: {"name", "version"}
//	POST   /secrets/{project}/{secret}/versions/{n}/{action}   action: enable, disable, destroy
//	PUT    /secrets/{project}/{secret}/aliases/{alias}         {"version": n}
//	DELETE /secrets/{project}/{secret}/aliases/{alias}
//	DELETE /secrets/{project}/{secret}
//
// ?location=LOCATION makes it a regional secret. Errors are {"error", "next"}: what is wrong and what to do.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, s.State())
	})
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) (any, error){
		"POST /faults":                                           s.postFault,
		"DELETE /faults":                                         s.deleteFaults,
		"PUT /secrets/{project}/{secret}":                        s.putSecret,
		"DELETE /secrets/{project}/{secret}":                     s.deleteSecret,
		"POST /secrets/{project}/{secret}/versions/{n}/{action}": s.postAction,
		"PUT /secrets/{project}/{secret}/aliases/{alias}":        s.putAlias,
		"DELETE /secrets/{project}/{secret}/aliases/{alias}":     s.deleteAlias,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			body, err := handle(w, r)
			switch {
			case err != nil:
				refuse(w, err)
			case body == nil:
				w.WriteHeader(http.StatusNoContent)
			default:
				answer(w, http.StatusOK, body)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &controlError{
			status: http.StatusNotFound,
			text:   fmt.Sprintf("%s %s is not part of the control API", r.Method, r.URL.Path),
			next:   "see gsm-emulator -h for its paths and methods",
		})
	})
	return mux
}

func (s *Server) postFault(w http.ResponseWriter, r *http.Request) (any, error) {
	var f FaultState
	const example = `send for example {"mode":"unavailable"} or {"mode":"delay","delayMs":500,"secret":"my-secret","rate":0.5}`
	if err := readJSON(w, r, &f, example); err != nil {
		return nil, err
	}
	const longestMs = int64(time.Hour / time.Millisecond)
	if f.DelayMs < 0 || f.DelayMs > longestMs {
		return nil, &controlError{http.StatusBadRequest, fmt.Sprintf("delayMs %d must be 0 to %d", f.DelayMs, longestMs), example}
	}
	fault := Fault{Mode: f.Mode, Secret: f.Secret, Delay: time.Duration(f.DelayMs) * time.Millisecond}
	if f.Rate != nil {
		if fault.Rate = *f.Rate; fault.Rate == 0 {
			return nil, &controlError{http.StatusBadRequest, "rate 0 makes no call fail", "leave rate out for every call, or DELETE /faults to end all faults"}
		}
	}
	if err := s.SetFault(fault); err != nil {
		return nil, &controlError{http.StatusBadRequest, err.Error(), example}
	}
	return fault.snapshot(), nil
}

func (s *Server) deleteFaults(http.ResponseWriter, *http.Request) (any, error) {
	s.ClearFaults()
	return nil, nil
}

func (s *Server) putSecret(w http.ResponseWriter, r *http.Request) (any, error) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxPayloadBytes))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, &controlError{
				http.StatusRequestEntityTooLarge,
				fmt.Sprintf("the payload is larger than %d bytes", MaxPayloadBytes), "send a smaller one: Secret Manager takes no more",
			}
		}
		return nil, &controlError{http.StatusBadRequest, "the body could not be read to its end", "send it again"}
	}
	name := namedSecret(r)
	number, err := s.Put(name, payload)
	if err != nil {
		return nil, err
	}
	return struct {
		Name    string `json:"name"`
		Version int    `json:"version"`
	}{versionName(name, number), number}, nil
}

func (s *Server) deleteSecret(_ http.ResponseWriter, r *http.Request) (any, error) {
	return nil, s.Delete(namedSecret(r))
}

func (s *Server) postAction(_ http.ResponseWriter, r *http.Request) (any, error) {
	name := namedSecret(r) + "/versions/" + r.PathValue("n")
	switch action := r.PathValue("action"); action {
	case "enable":
		return nil, s.Enable(name)
	case "disable":
		return nil, s.Disable(name)
	case "destroy":
		return nil, s.Destroy(name)
	default:
		return nil, &controlError{http.StatusNotFound, fmt.Sprintf("there is no action %q", action), "use enable, disable or destroy"}
	}
}

func (s *Server) putAlias(w http.ResponseWriter, r *http.Request) (any, error) {
	var body struct {
		Version int `json:"version"`
	}
	const example = `send for example {"version":1}`
	if err := readJSON(w, r, &body, example); err != nil {
		return nil, err
	}
	if body.Version < 1 {
		return nil, &controlError{http.StatusBadRequest, "version must be the number of a version, 1 or more", example}
	}
	return nil, s.SetAlias(namedSecret(r), r.PathValue("alias"), body.Version)
}

func (s *Server) deleteAlias(_ http.ResponseWriter, r *http.Request) (any, error) {
	return nil, s.SetAlias(namedSecret(r), r.PathValue("alias"), 0)
}

// namedSecret is the full name of the secret in the request's path, still to be checked.
func namedSecret(r *http.Request) string {
	return secretName(r.PathValue("project"), r.URL.Query().Get("location"), r.PathValue("secret"))
}

// controlError is an error of the control API that is not one of the emulated API.
type controlError struct {
	status int
	text   string
	next   string // what to do about it
}

func (e *controlError) Error() string { return e.text }

// readJSON reads a body that must be one JSON value of v's shape, whatever content type it is sent with.
func readJSON(w http.ResponseWriter, r *http.Request, v any, example string) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("something follows the JSON value")
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &controlError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxControlBody), example}
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	return &controlError{http.StatusBadRequest, "the body is not the JSON that is wanted here: " + err.Error(), example}
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(body) // the caller went away
}

// httpStatuses gives the errors of the emulated API their HTTP status and the step that leads on.
var httpStatuses = map[codes.Code]struct {
	status int
	next   string
}{
	codes.InvalidArgument:    {http.StatusBadRequest, "correct the request and send it again"},
	codes.NotFound:           {http.StatusNotFound, "GET /state lists what there is; PUT /secrets/PROJECT/SECRET makes a secret"},
	codes.FailedPrecondition: {http.StatusConflict, "GET /state shows the state of each version; a destroyed one stays so: add a version instead"},
}

func refuse(w http.ResponseWriter, err error) {
	shown, ok := errors.AsType[*controlError](err)
	if !ok {
		st := status.Convert(err)
		known := httpStatuses[st.Code()]
		shown = &controlError{known.status, st.Message(), known.next}
		if known.status == 0 {
			shown.status, shown.next = http.StatusInternalServerError, "this is a fault of the emulator itself; see "+strconv.Quote(st.Code().String())
		}
	}
	answer(w, shown.status, struct {
		Error string `json:"error"`
		Next  string `json:"next"`
	}{shown.text, shown.next})
}

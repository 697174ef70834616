package connect

import (
	"context"
	"crypto/x509"
	"net/http"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/service"
)

// patience is how many keep-alives one write to a client may take: one who reads is never cut off, one who does not
// is.
const patience = 4

// never is when the deadline of a stream is that has nothing to say. With none at all, net/http would not stop the timer of the
// next one when an HTTP/2 stream ends, and reset it afterwards.
const never = 100 * 365 * 24 * time.Hour

// healthAndReflection begins the paths of the library's services, whose streams would go on until the client ends them.
const healthAndReflection = "/grpc."

// served prepares each request: its id, and deadlines that fit streams. When the service is about to stop, it ends the
// streams that do not so by themselves.
func (a *api) served(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := a.Service.RequestID(r.Header.Get(requestIDHeader))
		r.Header.Set(requestIDHeader, id)
		header := w.Header()
		header.Set(requestIDHeader, id)
		header.Set("Cache-Control", "no-store")

		ctx := r.Context()
		if strings.HasPrefix(r.URL.Path, healthAndReflection) && !strings.HasSuffix(r.URL.Path, "/Check") {
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(a.Service.Ending(), cancel)()
		}
		pw := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: patience * a.KeepAlive, connection: r.RemoteAddr}
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			pw.certificates = r.TLS.PeerCertificates
		}
		next.ServeHTTP(pw, r.WithContext(context.WithValue(ctx, patientKey{}, pw)))
		if pw.unasked != "" {
			_ = a.Service.Authorize(ctx, pw.call, scopeOf[pw.unasked], "")
		}
		pw.hurry() // the server writes what is left
	})
}

// patientWriter replaces the server's deadline for the whole answer, which would cut streams off, by one for each
// write. Between writes it is never: over HTTP/2 it would reset a stream that has nothing to say.
type patientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	stream   bool

	connection   string              // the address at its other end
	certificates []*x509.Certificate // of the client, when the handshake has verified them

	// call was let in for the procedure unasked, whose scope nobody has asked for yet; that stays so when the message cannot
	// be read. Who lacks the scope is in the trail all the same.
	call    service.Call
	unasked string
}

type patientKey struct{}

// keepOpen lets an answer take as long as it wants while the client reads it.
func keepOpen(ctx context.Context) {
	if pw, ok := ctx.Value(patientKey{}).(*patientWriter); ok {
		pw.stream = true
	}
}

// connectionOf is the address of whoever called, which no two connections have at a time.
func connectionOf(ctx context.Context) string {
	pw, ok := ctx.Value(patientKey{}).(*patientWriter)
	if !ok {
		return ""
	}
	return pw.connection
}

// hurry gives the client of a stream until then to take what is being written.
func (w *patientWriter) hurry() {
	if w.stream {
		// What cannot have deadlines needs no others.
		_ = w.control.SetWriteDeadline(time.Now().Add(w.patience))
	}
}

func (w *patientWriter) Write(b []byte) (int, error) {
	w.hurry()
	return w.ResponseWriter.Write(b)
}

// Flush sends what was written, within the time of the last write.
func (w *patientWriter) Flush() {
	_ = w.control.Flush()
	if w.stream {
		_ = w.control.SetWriteDeadline(time.Now().Add(never))
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

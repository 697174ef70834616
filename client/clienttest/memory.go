package clienttest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

var (
	errRefused = errors.New("clienttest: the server is stopped")
	errKilled  = errors.New("clienttest: the server was killed")
)

// transport is an http.RoundTripper that calls a handler within the process. What the handler writes waits until it is
// read. It uses nothing but channels and pipes, so that a synctest bubble knows when everything waits.
type transport struct {
	mu      sync.Mutex
	handler http.Handler // nil while the server is stopped
	life    context.Context
	kill    context.CancelCauseFunc
	serving sync.WaitGroup
}

func (t *transport) start(handler http.Handler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handler = handler
	t.life, t.kill = context.WithCancelCause(context.Background())
}

// stop refuses calls from now on and waits for those that are served; gently means that they end by themselves.
func (t *transport) stop(gently bool) {
	t.mu.Lock()
	t.handler = nil
	kill := t.kill
	t.mu.Unlock()
	if !gently {
		kill(errKilled)
	}
	t.serving.Wait()
	kill(errKilled)
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.mu.Lock()
	handler, life := t.handler, t.life
	if handler != nil {
		t.serving.Add(1)
	}
	t.mu.Unlock()
	if handler == nil {
		return nil, errRefused
	}

	body, out := io.Pipe()
	answer := &response{header: http.Header{}, begun: make(chan struct{}), out: out}
	ctx, hangUp := context.WithCancel(req.Context())
	dies := context.AfterFunc(life, func() {
		_ = out.CloseWithError(context.Cause(life))
		hangUp()
	})
	go func() {
		defer t.serving.Done()
		defer hangUp()
		defer dies()
		served := req.Clone(ctx)
		if served.Body == nil {
			served.Body = http.NoBody
		}
		handler.ServeHTTP(answer, served)
		answer.WriteHeader(http.StatusOK) // if there was no other
		_ = out.Close()
	}()

	select {
	case <-answer.begun:
	case <-ctx.Done():
		_ = body.CloseWithError(ctx.Err())
		if life.Err() != nil {
			return nil, context.Cause(life)
		}
		return nil, ctx.Err()
	}
	stopReading := context.AfterFunc(req.Context(), func() { _ = out.CloseWithError(req.Context().Err()) })
	return &http.Response{
		Status: http.StatusText(answer.status), StatusCode: answer.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: answer.sent, ContentLength: -1, Request: req,
		Body: &answerBody{PipeReader: body, close: func() {
			stopReading()
			hangUp()
		}},
	}, nil
}

// answerBody tells the handler when nobody reads on.
type answerBody struct {
	*io.PipeReader

	close func()
}

func (b *answerBody) Close() error {
	b.close()
	return b.PipeReader.Close()
}

// response is what a handler writes to.
type response struct {
	header, sent http.Header
	status       int
	once         sync.Once
	begun        chan struct{}
	out          *io.PipeWriter
}

func (r *response) Header() http.Header { return r.header }

func (r *response) WriteHeader(status int) {
	r.once.Do(func() {
		r.status, r.sent = status, r.header.Clone()
		close(r.begun)
	})
}

func (r *response) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.out.Write(p)
}

// Flush sends the headers; what is written is sent anyway.
func (r *response) Flush() { r.WriteHeader(http.StatusOK) }

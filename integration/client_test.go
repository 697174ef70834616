package integration_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
	omni "github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// followed is a Go client, and the changes that it told of.
type followed struct {
	*omni.Client
	t       testing.TB
	changes chan omni.Change
}

// follow makes a client, whose first states are there when this returns.
func follow(t testing.TB, cfg omni.Config) *followed {
	t.Helper()
	f := &followed{t: t, changes: make(chan omni.Change, 100)}
	cfg.OnChange = func(change omni.Change) { f.changes <- change }
	var err error
	if f.Client, err = omni.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	if err := f.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// want checks what is served now.
func (f *followed) want(value string) {
	f.t.Helper()
	secret, err := f.Get(f.t.Context(), string(apiKey))
	if err != nil {
		f.t.Fatal(err)
	}
	if got := string(secret.Value.Reveal()); got != value {
		f.t.Fatalf("Get gives %q, want %q", got, value)
	}
}

// next waits for a change.
func (f *followed) next() omni.Change {
	f.t.Helper()
	select {
	case change := <-f.changes:
		return change
	case <-time.After(patience):
		f.t.Fatalf("told of no change within %v", patience)
		return omni.Change{}
	}
}

func (f *followed) wantNext(value string) {
	f.t.Helper()
	if change := f.next(); change.Err != nil || string(change.Secret.Value.Reveal()) != value {
		f.t.Fatalf("told of %q, %v; want %q", change.Secret.Value.Reveal(), change.Err, value)
	}
	f.want(value)
}

// front is an address that stays while servers come and go behind it, each on a port of its own: one that a server gave
// up might be another program's before the next server takes it.
type front struct {
	listener net.Listener
	server   atomic.Pointer[string] // its address
}

func newFront(t testing.TB) *front {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{listener: listener}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { f.connect(client) })
		}
	})
	t.Cleanup(func() { // after the clients and the servers have gone
		_ = listener.Close()
		open.Wait()
	})
	return f
}

func (f *front) url() string { return "http://" + f.listener.Addr().String() }

// lead leads new connections to a server.
func (f *front) lead(to *server) {
	address := strings.TrimPrefix(to.api, "http://")
	f.server.Store(&address)
}

// connect passes on what comes from either end until one of them is gone.
func (f *front) connect(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", *f.server.Load())
	if err != nil {
		return // as a server that is gone closes it
	}
	defer server.Close()
	var back sync.WaitGroup
	back.Go(func() {
		defer client.Close()
		_, _ = io.Copy(client, server)
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}

// tokenFile keeps a token in a file, as whatever renews it does.
func tokenFile(t testing.TB, token string) (path string, renew func(token string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "token")
	renew = func(token string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(token+"\n"), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	renew(token)
	return path, renew
}

// The Go client sees everything that changes, and goes on through the end of the server and of its token.
func TestGoClient(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	prepared := prepareServe(t, gsm.endpoint)
	behind := newFront(t)
	begin := func() *server {
		s := prepared.start(t)
		behind.lead(s)
		return s
	}
	s := begin()
	file, _ := tokenFile(t, sign(t, s.secret, "svc-first", domain.ScopeRead.String()))
	c := follow(t, omni.Config{BaseURLs: []string{behind.url()}, Token: omni.TokenFile(file), SecretTypes: []string{string(apiKey)}})
	first, rotated, injected, last := gsm.values[apiKey], "gsm-value-rotated-5b1e", "injected-in-a-drill-77ac", "gsm-value-after-the-kill-90d2"
	c.want(first)

	t.Log("a rotation")
	gsm.rotate(apiKey, rotated)
	s.do("POST", refreshPath, s.service, "").want(http.StatusAccepted, "")
	c.wantNext(rotated)

	t.Log("an override, which a restart of the server does not end")
	s.do("POST", glassPath, s.ops, sealedBody(t, s, injected)).want(http.StatusCreated, "")
	c.wantNext(injected)
	s.stop()
	c.want(injected)
	s = begin()
	s.do("DELETE", glassPath+"/"+string(apiKey), s.ops, "").want(http.StatusNoContent, "")
	c.wantNext(rotated)

	t.Log("kill -9")
	s.kill()
	c.want(rotated)
	s = begin()
	gsm.rotate(apiKey, last)
	s.do("POST", refreshPath, s.service, "").want(http.StatusAccepted, "")
	c.wantNext(last)

	s.wantNoTrace(first, rotated, injected, last)
}

// A stream ends with its token. Who renewed the token in time does not notice.
func TestGoClientWhoseTokenExpires(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint).start(t)
	short, err := token.Sign(s.secret, token.Claims{
		Subject: "svc-first", Scopes: []string{domain.ScopeRead.String()}, ExpiresAt: time.Now().Add(5 * time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	file, renew := tokenFile(t, short)
	c := follow(t, omni.Config{BaseURLs: []string{s.api}, Token: omni.TokenFile(file), SecretTypes: []string{string(apiKey)}})
	renew(sign(t, s.secret, "svc-second", domain.ScopeRead.String()))
	eventually(t, "the first token has expired", func() bool {
		return s.do("GET", readPath+string(apiKey), short, "").status == http.StatusUnauthorized
	})
	c.want(gsm.values[apiKey])
	s.do("POST", glassPath, s.ops, sealedBody(t, s, "injected-in-a-drill-3c08")).want(http.StatusCreated, "")
	c.wantNext("injected-in-a-drill-3c08")
	s.wantEvents(1, "actor_id = 'svc-second' AND action = 'read' AND source = 'break_glass'")
	s.wantNoTrace(short)
}

// The commands that follow a secret see an override, and its end, as the Go client does.
func TestCommandsFollow(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint).start(t)
	file, _ := tokenFile(t, sign(t, s.secret, "svc-trading", domain.ScopeRead.String()))
	env := []string{"OMNI_API_URL=" + s.api, "PATH=" + os.Getenv("PATH")}
	const injected = "injected-in-a-drill-e671"

	executed := start(t, env, "omni-secrets", "exec", "--token-file", file, "--env", "KEY="+string(apiKey), "--on-change", "restart", "--",
		"sh", "-c", `echo "has $KEY"; exec sleep 600`)
	printed := start(t, env, "omni-secrets", "get", "--token-file", file, "--secret-type", string(apiKey), "--watch")
	wantLines := func(value string, times int) {
		t.Helper()
		for p, line := range map[*program]string{executed: "has " + value, printed: value} {
			seen := 0
			if !p.stdout.Await(0, patience, func(got string) bool {
				if got == line {
					seen++
				}
				return seen == times
			}) {
				t.Fatalf("did not print %q %d times:\n%s%s", line, times, p.stdout.Text(), p.stderr.Text())
			}
		}
	}
	wantLines(gsm.values[apiKey], 1)
	s.do("POST", glassPath, s.ops, sealedBody(t, s, injected)).want(http.StatusCreated, "")
	wantLines(injected, 1)
	s.do("DELETE", glassPath+"/"+string(apiKey), s.ops, "").want(http.StatusNoContent, "")
	wantLines(gsm.values[apiKey], 2)

	printed.stop()
	if err := executed.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	executed.wantExit(128 + int(syscall.SIGTERM)) // as the command did
	if lines := executed.stdout.Count(); lines != 3 {
		t.Errorf("the command was started %d times, want 3", lines)
	}
	s.wantNoTrace(gsm.values[apiKey], injected)
}

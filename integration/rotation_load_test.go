package integration_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const seed domain.SecretType = "zk_signing_seed"

// observed is one read under load.
type observed struct {
	on     *server
	began  time.Time
	status int
	body   string
}

// observers read a secret of both replicas over and over and keep what they got.
type observers struct {
	ended   chan struct{}
	reading sync.WaitGroup

	mu   sync.Mutex
	seen []observed
}

const observersOfEach = 4

func (st *stack) observe(secret domain.SecretType) *observers {
	o := &observers{ended: make(chan struct{})}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 2 * observersOfEach}}
	for i := range 2 * observersOfEach {
		on := []*server{st.a, st.b}[i%2]
		o.reading.Go(func() {
			for {
				select {
				case <-o.ended:
					return
				default:
				}
				one := observed{on: on, began: time.Now()}
				a, err := on.tryWith(client, "GET", readPath+string(secret), on.service, "")
				one.status, one.body = a.status, a.body
				if err != nil {
					one.body = err.Error()
				}
				o.mu.Lock()
				o.seen = append(o.seen, one)
				o.mu.Unlock()
			}
		})
	}
	st.t.Cleanup(o.stop)
	return o
}

func (o *observers) stop() {
	select {
	case <-o.ended:
	default:
		close(o.ended)
	}
	o.reading.Wait()
}

// await waits until each replica was read some more times.
func (o *observers) await(t *testing.T, replicas ...*server) {
	t.Helper()
	count := func() map[*server]int {
		o.mu.Lock()
		defer o.mu.Unlock()
		n := make(map[*server]int)
		for _, one := range o.seen {
			n[one.on]++
		}
		return n
	}
	before := count()
	for _, r := range replicas {
		eventually(t, "reads go on", func() bool { return count()[r] >= before[r]+50 })
	}
}

// rotate rotates a secret while it is read: no read fails, and none that begins after the answer to the promote, or at
// the other replica a second later, gets the old version.
func (st *stack) rotate() {
	t, a, b := st.t, st.a, st.b
	const next = "second-version-of-the-seed-77d0"
	load := st.observe(seed)
	load.await(t, a, b)

	st.emulate("PUT", "/secrets/omni-dev/"+secretID(seed), next)
	preview := a.do("POST", "/ops/apex-omni/secrets/rotation-preview", a.ops, `{"secretType":"zk_signing_seed","gcpSecretVersion":"2"}`).
		want(http.StatusOK, "").json()
	if preview["validated"] != true {
		t.Fatalf("preview: %v", preview)
	}
	a.do("POST", "/ops/apex-omni/secrets/rotations", a.ops, `{"secretType":"zk_signing_seed","gcpSecretVersion":"2"}`).want(http.StatusCreated, "")
	eventually(t, "B knows of the rotation", func() bool { return b.status(seed)["status"] == "rotating" })
	a.do("POST", refreshPath, a.service, "").want(http.StatusAccepted, "") // does not take the new version
	load.await(t, a, b)
	a.wantRead(seed, sampleValue(seed), "gsm", false)
	b.do("POST", "/ops/apex-omni/secrets/rotations", b.ops, `{"secretType":"zk_signing_seed","gcpSecretVersion":"2"}`).
		want(http.StatusConflict, domain.CodeRotationInProgress)

	b.do("POST", "/ops/apex-omni/secrets/rotations/zk_signing_seed/promote", b.ops, "").want(http.StatusOK, "")
	promoted := time.Now()
	eventually(t, "a second and a half has passed", func() bool { return time.Since(promoted) > 1500*time.Millisecond })
	load.await(t, a, b)
	load.stop()

	promise := map[*server]time.Time{b: promoted, a: promoted.Add(time.Second)}
	counts := make(map[string]int)
	for _, one := range load.seen {
		name := map[*server]string{a: "A", b: "B"}[one.on]
		isNew, isOld := strings.Contains(one.body, next), strings.Contains(one.body, sampleValue(seed))
		switch {
		case one.status != http.StatusOK || isNew == isOld:
			t.Fatalf("a read of %s failed: %d %s", name, one.status, one.body)
		case isOld && !one.began.Before(promise[one.on]):
			t.Fatalf("%v after the promote a read of %s began that got the old version", one.began.Sub(promoted), name)
		case isNew:
			counts[name+" new"]++
		default:
			counts[name+" old"]++
		}
	}
	for _, what := range []string{"A old", "A new", "B old", "B new"} {
		if counts[what] == 0 {
			t.Errorf("no read of kind %q: %v", what, counts)
		}
	}
	t.Logf("reads: %v", counts)

	for _, replica := range []*server{a, b} {
		if row := replica.status(seed); row["status"] != "active" || row["cacheVersion"] != "2" || row["lastRotatedAt"] == nil {
			t.Errorf("status: %v", row)
		}
	}
	st.wantSQL("SELECT action, result, gcp_secret_version FROM omni_secret_access_events"+
		" WHERE secret_type = 'zk_signing_seed' AND action LIKE 'rotation%' AND result = 'success' ORDER BY recorded_at",
		"rotation_preview|success|2", "rotation_begin|success|2", "rotation_promote|success|2")
	st.wantSQL(fmt.Sprintf("SELECT from_version, to_version, outcome, begun_by = ended_by FROM omni_secret_rotations WHERE secret_type = '%s'", seed), "1|2|promoted|t")
}

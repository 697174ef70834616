package service_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

// rotationModel is the state machine of the README in plain words: which version is served everywhere, and why.
// Versions are numbers, 0 for none.
type rotationModel struct {
	versions int          // that the backend has; latest stands for the last
	disabled map[int]bool // of them
	served   int
	pinned   int // what is served whatever latest stands for, until that is newer than what was decided about
	newest   int // that was decided about
	to       int // where it rotates; 0 while it does not
}

func (m *rotationModel) readable(version int) bool {
	return version >= 1 && version <= m.versions && !m.disabled[version]
}

// fetch is what every replica does now and then. It reports whether that finds a rotation that was made elsewhere.
func (m *rotationModel) fetch() (found bool) {
	latest := m.versions
	follows := m.pinned == 0 || m.to == 0 && latest > m.newest && m.readable(latest)
	if !follows {
		m.served = m.ifReadable(m.pinned)
		return false
	}
	m.served = m.ifReadable(latest)
	if m.served > m.newest {
		m.newest, m.pinned = m.served, 0
		return true
	}
	return false
}

func (m *rotationModel) ifReadable(version int) int {
	if m.readable(version) {
		return version
	}
	return 0
}

// begin holds what is served, or would be.
func (m *rotationModel) begin(to int) domain.Code {
	switch {
	case m.to != 0:
		return domain.CodeRotationInProgress
	case !m.readable(to) || to == m.served:
		return domain.CodeVersionRejected
	}
	if m.pinned == 0 {
		if m.pinned = m.served; m.pinned == 0 {
			m.pinned = m.newest
		}
	}
	m.to, m.newest = to, max(m.newest, to)
	return ""
}

func (m *rotationModel) promote() domain.Code {
	switch {
	case m.to == 0:
		return domain.CodeNoRotation
	case !m.readable(m.to):
		return domain.CodeVersionRejected
	}
	m.served, m.pinned, m.to = m.to, m.to, 0
	return ""
}

func (m *rotationModel) abort() domain.Code {
	if m.to == 0 {
		return domain.CodeNoRotation
	}
	m.to = 0
	return ""
}

func (m *rotationModel) record() domain.Code {
	if m.to != 0 {
		return domain.CodeRotationInProgress
	}
	return ""
}

// rotationWorld is the world in which nothing fails but single versions.
type rotationWorld struct {
	*world

	m     rotationModel
	steps []string // the events that there must be of rotations
}

// Whatever versions are added and disabled and whoever begins, promotes, aborts and records rotations on which replica,
// both replicas serve the version that the model says, show its state, and leave one event for each step.
func TestRotationsFollowTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			w := &rotationWorld{world: newWorld(t), m: rotationModel{versions: 1, disabled: make(map[int]bool), served: 1, newest: 1}}
			t.Cleanup(w.close)
			t.Repeat(map[string]func(*rapid.T){
				"":              w.check,
				"a new version": func(*rapid.T) { w.add() },
				"disable":       w.disable,
				"begin":         w.begin,
				"promote":       w.promote,
				"abort":         w.abort,
				"record":        w.record,
				"preview":       w.preview,
				"refresh":       w.refresh,
				"time passes":   w.pass,
				"restart":       w.restart,
			})
		})
	})
}

func (w *rotationWorld) add() {
	w.m.versions++
	w.backend.Set("key", "key-"+strconv.Itoa(w.m.versions))
}

func (w *rotationWorld) disable(t *rapid.T) {
	version := rapid.IntRange(1, w.m.versions).Draw(t, "version")
	w.backend.Disable("key", version)
	w.m.disabled[version] = true
	w.pass(t) // until everybody knows
}

func (w *rotationWorld) version(t *rapid.T) int {
	return rapid.IntRange(1, w.m.versions+1).Draw(t, "version")
}

// step compares the code of a step with the model's and expects its event.
func (w *rotationWorld) step(action domain.Action, version int, err error, want domain.Code) {
	w.t.Helper()
	w.wantCode(err, want)
	w.expectStep(action, version, string(want))
}

func (w *rotationWorld) expectStep(action domain.Action, version int, want string) {
	result := domain.ResultSuccess
	if want != "" {
		result = domain.ResultFailure
	}
	name := ""
	if version > 0 {
		name = strconv.Itoa(version)
	}
	w.steps = append(w.steps, fmt.Sprintf("%s %s %s %s", action, name, result, want))
	synctest.Wait()
}

func (w *rotationWorld) begin(t *rapid.T) {
	r, version := w.anyReplica(t), w.version(t)
	_, err := r.BeginRotation(t.Context(), operator, apiKey, strconv.Itoa(version))
	w.step(domain.ActionRotationBegin, version, err, w.m.begin(version))
}

func (w *rotationWorld) promote(t *rapid.T) {
	r, to, before := w.anyReplica(t), w.m.to, w.m.served
	_, err := r.PromoteRotation(t.Context(), operator, apiKey)
	got, _ := w.read(r) // right after the answer
	want := w.m.promote()
	w.step(domain.ActionRotationPromote, to, err, want)
	if want != "" {
		return
	}
	if before != to {
		w.fetched() // the other replica does, and may find that there is a newer one
	}
	w.wantVersion(r, got, to, w.m.served)
	time.Sleep(time.Second) //nolint:forbidigo // simulated: in a bubble; within this time everybody follows
}

func (w *rotationWorld) abort(t *rapid.T) {
	r, to := w.anyReplica(t), w.m.to
	_, err := r.AbortRotation(t.Context(), operator, apiKey)
	w.step(domain.ActionRotationAbort, to, err, w.m.abort())
}

func (w *rotationWorld) record(t *rapid.T) {
	r := w.anyReplica(t)
	_, err := r.RecordRotation(t.Context(), operator, apiKey, time.Time{})
	want, version := w.m.record(), w.m.newest
	if want != "" {
		version = 0
	}
	w.step(domain.ActionWriteMetadata, version, err, want)
}

func (w *rotationWorld) preview(t *rapid.T) {
	r, version := w.anyReplica(t), w.version(t)
	p, err := r.PreviewRotation(t.Context(), operator, apiKey, strconv.Itoa(version), "")
	if w.m.to != 0 && w.m.to != version {
		w.step(domain.ActionRotationPreview, version, err, domain.CodeRotationInProgress)
		return
	}
	w.wantCode(err, "")
	var want domain.CheckCode
	switch {
	case !w.m.readable(version):
		want = domain.CheckVersionUnreadable
	case version == w.m.served:
		want = domain.CheckVersionUnchanged
	}
	var got domain.CheckCode
	if p.Failed != nil {
		got = p.Failed.Code
	}
	if got != want {
		w.t.Fatalf("preview of version %d: %q, want %q", version, got, want)
	}
	w.expectStep(domain.ActionRotationPreview, version, string(want))
}

// refresh is by one replica; the other one follows.
func (w *rotationWorld) refresh(t *rapid.T) {
	_, err := w.anyReplica(t).Refresh(t.Context(), cacher, apiKey)
	w.fetched()
	if (err == nil) != (w.m.served > 0) {
		w.t.Fatalf("refresh: %v, though %+v", err, w.m)
	}
	w.await()
}

// pass lets every replica fetch, and take up what it found.
func (w *rotationWorld) pass(*rapid.T) {
	w.fetched()
	w.await()
}

func (*rotationWorld) await() {
	time.Sleep(5 * time.Minute) //nolint:forbidigo // simulated: in a bubble
	synctest.Wait()
}

func (w *rotationWorld) fetched() {
	if w.m.fetch() {
		w.steps = append(w.steps, fmt.Sprintf("%s %d %s ", domain.ActionRotationDetected, w.m.newest, domain.ResultSuccess))
	}
}

func (w *rotationWorld) restart(t *rapid.T) {
	r := w.anyReplica(t)
	r.stop()
	w.start(r)
	w.pass(t)
}

// wantVersion checks that what a reader got is one of the versions.
func (w *rotationWorld) wantVersion(r *replica, got answer, versions ...int) {
	w.t.Helper()
	for _, version := range versions {
		want := answer{}
		if version > 0 {
			want = answer{"key-" + strconv.Itoa(version), strconv.Itoa(version), "gsm", false}
		}
		if got == want {
			return
		}
	}
	w.t.Fatalf("a reader of %s got %+v, want version %v by %+v", r, got, versions, w.m)
}

func (w *rotationWorld) check(t *rapid.T) {
	if w.m.served == 0 {
		w.pass(t) // what fails is fetched again all the time
	}
	time.Sleep(200 * time.Millisecond) //nolint:forbidigo // simulated: in a bubble; the drain rests so long
	synctest.Wait()
	for _, r := range w.replicas {
		got, _ := w.read(r)
		w.wantVersion(r, got, w.m.served)
		all, err := r.Status(context.Background(), operator)
		if err != nil {
			w.t.Fatal(err)
		}
		w.checkStanding(r, all[0])
	}
	var got []string
	for _, e := range w.store.Events() {
		switch e.Action {
		case domain.ActionWriteMetadata:
			if e.Actor == domain.Automation {
				continue // the row, at the start
			}
		case domain.ActionRotationPreview, domain.ActionRotationBegin, domain.ActionRotationPromote, domain.ActionRotationAbort, domain.ActionRotationDetected:
		default:
			continue
		}
		got = append(got, fmt.Sprintf("%s %s %s %s", e.Action, e.Version, e.Result, e.ErrorCode))
	}
	slices.Sort(got)
	slices.Sort(w.steps)
	if !slices.Equal(got, w.steps) {
		w.t.Fatalf("events:\ngot  %q\nwant %q", got, w.steps)
	}
}

func (w *rotationWorld) checkStanding(r *replica, st service.SecretStatus) {
	number := func(version string) int { n, _ := strconv.Atoi(version); return n }
	got := rotationModel{newest: number(st.NewestVersion), pinned: number(st.PinnedVersion), to: number(st.InProgress.To), served: number(st.Version)}
	want := rotationModel{newest: w.m.newest, pinned: w.m.pinned, to: w.m.to, served: w.m.served}
	if got.newest != want.newest || got.pinned != want.pinned || got.to != want.to || got.served != want.served {
		w.t.Fatalf("status of %s: %+v, want %+v", r, got, want)
	}
	status := domain.RotationActive
	if w.m.to != 0 {
		status = domain.RotationRotating
	}
	if st.Status != status {
		w.t.Fatalf("%s says that the secret is %s, want %s", r, st.Status, status)
	}
	if last := st.LastRotatedAt; !last.IsZero() && !st.RotationDueAt.Equal(last.AddDate(1, 0, 0)) {
		w.t.Fatalf("%s: rotated at %v, due at %v", r, last, st.RotationDueAt)
	}
}

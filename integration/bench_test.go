package integration_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
)

// anyNumberOfOverrides is the setting of a server whose one operator applies as many as a benchmark has rounds.
const anyNumberOfOverrides = "OMNI_OVERRIDES_PER_MINUTE=0"

// BenchmarkOverrideReachesTheOtherReplica measures the time from the answer of replica A to the first read of the
// override on replica B.
func BenchmarkOverrideReachesTheOtherReplica(b *testing.B) {
	gsm := startEmulator(b)
	prepared := prepareReplicas(b, postgrestest.NewServer(b), gsm, "replica-a", "replica-b")
	prepared[0].env = append(prepared[0].env, anyNumberOfOverrides)
	first, second := prepared[0].start(b), prepared[1].start(b)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		value := fmt.Sprintf("injected-%d", i)
		first.do("POST", glassPath, first.ops, sealedBody(b, first, value)).want(http.StatusCreated, "")
		applied := time.Now()
		for second.do("GET", readPath+string(apiKey), second.service, "").json()["value"] != value {
			if time.Since(applied) > patience {
				b.Fatal("the override does not arrive")
			}
		}
		took = append(took, time.Since(applied))
	}
	slices.Sort(took)
	b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
}

// BenchmarkLeaderHandOver measures the time from the death of the leader to another replica's leading.
func BenchmarkLeaderHandOver(b *testing.B) {
	gsm := startEmulator(b)
	prepared := prepareReplicas(b, postgrestest.NewServer(b), gsm, "replica-a", "replica-b")
	leader, other := 0, 1
	running := []*server{prepared[0].start(b), nil}
	running[1] = prepared[1].start(b)
	leads := func(i int) bool { return running[i].metric("omni_leader") == "1" }
	eventually(b, "one leads", func() bool { return leads(0) || leads(1) })
	if leads(1) {
		leader, other = 1, 0
	}
	var took time.Duration
	n := 0
	for b.Loop() {
		running[leader].kill()
		died := time.Now()
		eventually(b, "the other leads", func() bool { return leads(other) })
		took += time.Since(died)
		n++
		running[leader] = prepared[leader].start(b)
		leader, other = other, leader
	}
	b.ReportMetric(milliseconds(took)/float64(n), "handover-ms")
}

// BenchmarkStart measures the time from the start of the process on SQLite until it serves all of its secrets, and the
// memory that it then has.
func BenchmarkStart(b *testing.B) {
	prepared := prepareServe(b, startEmulator(b).endpoint)
	var took []time.Duration
	var resident, own []int64
	for b.Loop() {
		began := time.Now()
		s := prepared.start(b)
		for s.do("GET", "/readyz", "", "").status != http.StatusOK {
			if time.Since(began) > patience {
				b.Fatal("it does not get ready")
			}
		}
		took = append(took, time.Since(began))
		resident = append(resident, memoryKiB(b, s.cmd.Process.Pid, "VmRSS:"))
		own = append(own, memoryKiB(b, s.cmd.Process.Pid, "RssAnon:"))
		s.kill()
	}
	slices.Sort(took)
	slices.Sort(resident)
	slices.Sort(own)
	b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
	b.ReportMetric(float64(resident[len(resident)/2])/1024, "idle-MiB")
	b.ReportMetric(float64(own[len(own)/2])/1024, "idle-MiB-without-program")
}

// memoryKiB is what /proc says of a process's memory: VmRSS for all of it, RssAnon without the pages of files, such as the
// program's own, that Linux can take back.
func memoryKiB(b *testing.B, pid int, line string) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatalf("memory is known on Linux only: %v", err)
	}
	_, after, _ := strings.Cut(string(status), line)
	kib, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// TestComposeStack brings docker-compose.yml up and looks at it from outside. The steps build on each other.
func TestComposeStack(t *testing.T) {
	st := startStack(t, fmt.Sprintf("omni-test-%d", os.Getpid()))
	for _, step := range []struct {
		name string
		run  func(*stack)
	}{
		{"both replicas are ready", (*stack).bothReady},
		{"nothing is published or privileged beyond need", (*stack).confined},
		{"the server's role cannot change the audit trail", (*stack).leastPrivilege},
		{"the runbook on one replica is seen on the other", (*stack).runbook},
		{"Prometheus has the series of both", (*stack).scraped},
		{"a rotation from preview to promote, under load", (*stack).rotate},
		{"a replica is killed", (*stack).killReplica},
		{"PostgreSQL stops and starts", (*stack).restartPostgres},
		{"no value in any container's output", (*stack).noTrace}, // the next step replaces containers
		{"the emulator stops and starts", (*stack).restartEmulator},
		{"a rolling restart", (*stack).rollingRestart},
		{"still no value in any container's output", (*stack).noTrace},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(st.in(t)) }) {
			return // the state is not what the next step expects
		}
	}
}

func (st *stack) bothReady() {
	for _, replica := range []*server{st.a, st.b} {
		replica.do("GET", "/readyz", "", "").want(http.StatusOK, "")
		if got := replica.do("GET", "/version", "", "").want(http.StatusOK, "").json(); got["version"] != "integration" || got["revision"] != "revision-under-test" {
			st.t.Errorf("the image's version is %v", got)
		}
		replica.wantRead(apiKey, sampleValue(apiKey), "gsm", false)
	}
	// As the README does it, with nothing but Docker.
	token := strings.TrimSpace(st.compose("exec", "-T", "omni-a", "omni-secrets", "token", "--subject", "ana", "--scope", "omni:ops"))
	st.b.do("GET", statusPath, token, "").want(http.StatusOK, "")
	// A second migration and a second grant find nothing to do.
	st.compose("run", "--rm", "-T", "migrate")
	st.compose("run", "--rm", "-T", "app-role")
}

func sampleValue(t domain.SecretType) string {
	return "sample-value-of-" + strings.ReplaceAll(string(t), "_", "-")
}

func (st *stack) confined() {
	for service, c := range st.containers() {
		for port, bindings := range c.NetworkSettings.Ports {
			for _, b := range bindings {
				if b.HostIP != "127.0.0.1" {
					st.t.Errorf("%s publishes %s on %q", service, port, b.HostIP)
				}
			}
		}
		if service != "omni-a" && service != "omni-b" && service != "gsm-emulator" {
			continue
		}
		if c.Config.User != "65532:65532" || !c.HostConfig.ReadonlyRootfs || fmt.Sprint(c.HostConfig.CapDrop) != "[ALL]" ||
			fmt.Sprint(c.HostConfig.SecurityOpt) != "[no-new-privileges:true]" {
			st.t.Errorf("%s is not confined: user %q, %+v", service, c.Config.User, c.HostConfig)
		}
	}
}

// container is the part of `docker inspect` that is looked at.
type container struct {
	Config     struct{ User string }
	HostConfig struct {
		ReadonlyRootfs       bool
		CapDrop, SecurityOpt []string
	}
	NetworkSettings struct {
		Ports map[string][]struct {
			HostIP string `json:"HostIp"`
		}
	}
}

// containers are those that run, by service.
func (st *stack) containers() map[string]container {
	st.t.Helper()
	found := make(map[string]container)
	for line := range strings.Lines(st.compose("ps", "--format", "{{.Service}} {{.ID}}")) {
		service, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		var list []container
		if err := json.Unmarshal(st.docker("inspect", id), &list); err != nil || len(list) != 1 {
			st.t.Fatalf("inspect %s: %v", service, err)
		}
		found[service] = list[0]
	}
	if len(found) != 5 {
		st.t.Fatalf("%d containers run, want 5: %v", len(found), found)
	}
	return found
}

func (st *stack) leastPrivilege() {
	st.wantSQL("SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'omni-secrets%'", "omni_secrets")
	st.wantSQL("SELECT has_table_privilege('omni_secrets', 'omni_secret_access_events', 'INSERT'),"+
		" has_table_privilege('omni_secrets', 'omni_secret_access_events', 'UPDATE, DELETE, TRUNCATE'),"+
		" rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = 'omni_secrets'", "t|f|f")
}

func (st *stack) runbook() {
	t, a, b := st.t, st.a, st.b

	t.Log("a refresh on A is a fetch on B")
	const second = "second-version-of-the-key-5ab1"
	st.emulate("PUT", "/secrets/omni-dev/"+secretID(apiKey), second)
	a.wantRead(apiKey, sampleValue(apiKey), "gsm", false) // as long as nobody asks for more
	b.wantRead(apiKey, sampleValue(apiKey), "gsm", false)
	a.do("POST", refreshPath, a.service, "").want(http.StatusAccepted, "")
	a.wantRead(apiKey, second, "gsm", false)
	eventually(t, "B serves the new version", func() bool { return b.status(apiKey)["cacheVersion"] == "2" })
	b.wantRead(apiKey, second, "gsm", false)

	t.Log("break-glass on A is served by B")
	const injected = "injected-by-an-operator-c09e"
	a.breakGlass(t, apiKey, injected, "--reason", "INC-42")
	applied := time.Now()
	eventually(t, "B serves the override", func() bool { return b.status(apiKey)["cacheSource"] == "break_glass" })
	t.Logf("B served the override %v after A had confirmed it", time.Since(applied)) // the benchmark judges
	b.wantRead(apiKey, injected, "break_glass", false)
	st.wantMetricOfBoth("1", "omni_break_glass_active", "secret_type", string(apiKey))

	t.Log("a refresh on B ends it on both, and one event says so")
	b.do("POST", refreshPath, b.service, `{"secretType":"trading_api_key"}`).want(http.StatusAccepted, "")
	for _, replica := range []*server{a, b} {
		eventually(t, "the override is over on "+replica.api, func() bool { return replica.status(apiKey)["cacheSource"] == "gsm" })
		replica.wantRead(apiKey, second, "gsm", false)
	}

	t.Log("one that is cleared on the other replica")
	a.breakGlass(t, webhook, injected, "--reason", "INC-43")
	b.do("DELETE", glassPath+"/"+string(webhook), b.ops, "").want(http.StatusNoContent, "")
	for _, replica := range []*server{a, b} {
		eventually(t, "the override is over on "+replica.api, func() bool { return replica.status(webhook)["cacheSource"] == "gsm" })
		replica.wantRead(webhook, sampleValue(webhook), "gsm", false)
	}

	t.Log("what auditors see")
	st.wantDrained()
	st.wantSQL("SELECT secret_type, action, count(*), count(DISTINCT event_id) FROM omni_secret_access_events"+
		" WHERE action LIKE 'break_glass%' GROUP BY 1, 2 ORDER BY 1, 2",
		"trading_api_key|break_glass_apply|1|1", "trading_api_key|break_glass_clear|1|1",
		"webhook_shared_secret|break_glass_apply|1|1", "webhook_shared_secret|break_glass_clear|1|1")
	st.wantSQL("SELECT secret_type, applied_by, reason, end_cause, actual_end IS NOT NULL FROM omni_break_glass_events ORDER BY 1",
		"trading_api_key|sre|INC-42|refreshed|t", "webhook_shared_secret|sre|INC-43|cleared|t")
	st.wantSQL("SELECT DISTINCT replica_id FROM omni_secret_access_events WHERE action = 'read' ORDER BY 1", "omni-a", "omni-b")

	// The load that follows expects the sample value, and the emulator forgets this one when it stops.
	st.emulate("PUT", "/secrets/omni-dev/"+secretID(apiKey), sampleValue(apiKey))
	a.do("POST", refreshPath, a.service, "").want(http.StatusAccepted, "")
	eventually(t, "B serves the sample again", func() bool { return b.status(apiKey)["cacheVersion"] == "3" })
}

func (st *stack) wantMetricOfBoth(value, name string, labels ...string) {
	st.t.Helper()
	st.a.wantMetric(value, name, labels...)
	st.b.wantMetric(value, name, labels...)
}

func (st *stack) scraped() {
	for _, query := range []string{
		fmt.Sprintf("omni_secret_reads_total{secret_type=%q, source=%q}", apiKey, "gsm"),
		fmt.Sprintf("omni_secret_failures_total{secret_type=%q, reason=%q}", apiKey, "unavailable"),
		`up{job="omni-secrets"} == 1`, `omni_build_info`,
	} {
		eventually(st.t, query+" of both replicas", func() bool {
			instances := make(map[string]bool)
			for _, series := range st.promQL(query) {
				instances[series["instance"]] = true
			}
			return len(instances) == 2 && instances["omni-a"] && instances["omni-b"]
		})
	}
	eventually(st.t, "one replica leads", func() bool { return len(st.promQL("sum(omni_leader) == 1")) == 1 })

	eventually(st.t, "every rule was evaluated without an error", func() bool {
		health := st.ruleHealth()
		return len(health) == 1 && health["ok"] > 10
	})

	// Prometheus understands what every panel of the dashboard asks, and has something to show in it, but for what does
	// not happen here.
	variables := strings.NewReplacer("$__rate_interval", "1m", "$job", "omni-secrets", "$instance", ".*", "$secret_type", ".*")
	for _, p := range readDashboard(st.t).Panels {
		for _, target := range p.Targets {
			expr := variables.Replace(target.Expr)
			if st.promQL(expr); mayBeEmpty.MatchString(expr) {
				continue
			}
			eventually(st.t, "the dashboard's query has a result: "+expr, func() bool {
				return len(st.promQL(expr)) > 0
			})
		}
	}
}

// mayBeEmpty finds queries about what is not there while all is well, while nobody calls by RPC, and without TLS and a
// signing key, which the stack does not have.
var mayBeEmpty = regexp.MustCompile(`ALERTS|omni_break_glass_(expiry|follow_up)|:increase5m|rpc_server|\[45\]|omni_tls|omni_audit_checkpoint`)

// ruleHealth counts Prometheus' rules by how their last evaluation went.
func (st *stack) ruleHealth() map[string]int {
	st.t.Helper()
	body, err := fetch(st.t, st.prometheus+"/api/v1/rules")
	if err != nil {
		st.t.Fatal(err)
	}
	var a struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Health string }
			}
		}
	}
	if err := json.Unmarshal(body, &a); err != nil {
		st.t.Fatalf("%v: %s", err, body)
	}
	health := make(map[string]int)
	for _, g := range a.Data.Groups {
		for _, r := range g.Rules {
			health[r.Health]++
		}
	}
	return health
}

// killReplica kills the one that leads, so that the other has to take over.
func (st *stack) killReplica() {
	service, dead, alive := "omni-a", st.a, st.b
	if st.b.metric("omni_leader") == "1" {
		service, dead, alive = "omni-b", st.b, st.a
	}
	dead.wantMetric("1", "omni_leader")
	alive.wantMetric("0", "omni_leader")
	l := st.startLoad("kill")
	st.compose("kill", "--signal", "SIGKILL", service)
	diverted := l.diverts.Load()
	l.await(service+" is gone", 400)
	if l.diverts.Load() == diverted {
		st.t.Errorf("no read went to the second choice: %s was not gone", service)
	}
	eventually(st.t, "the other replica leads", func() bool { return alive.metric("omni_leader") == "1" })
	st.compose("start", service)
	st.wantHealthy(service)
	l.await(service+" is back", 200)
	l.finish()
	dead.wantMetric("0", "omni_leader")
}

func (st *stack) restartPostgres() {
	l := st.startLoad("database")
	st.compose("stop", "postgres")
	l.await("PostgreSQL is gone", 400)
	st.wantEach()
	for _, replica := range []*server{st.a, st.b} {
		if got := replica.metric("omni_audit_journal_events"); got == "0" || got == "" {
			st.t.Errorf("%s events wait in the journal of %s", got, replica.api)
		}
		env := []string{"OMNI_BREAKGLASS_PUBLIC_KEY=" + replica.publicKey, "OMNI_API_URL=" + replica.api, "OMNI_TOKEN=" + replica.ops}
		run(st.t, env, "never-injected", "breakglass", "--secret-type", string(apiKey), "--secret-value-file", "-", "--ttl", "5m").
			want(st.t, 5, "nothing was changed")
	}
	st.compose("start", "postgres")
	st.wantHealthy("postgres")
	l.await("PostgreSQL is back", 200)
	l.finish()

	// The change feed is back too.
	const injected = "injected-after-the-restart-71d0"
	st.b.breakGlass(st.t, webhook, injected)
	eventually(st.t, "A serves the override", func() bool { return st.a.status(webhook)["cacheSource"] == "break_glass" })
	st.a.do("DELETE", glassPath+"/"+string(webhook), st.a.ops, "").want(http.StatusNoContent, "")
}

// restartEmulator gives the replicas a TTL so short that they miss Secret Manager at once.
func (st *stack) restartEmulator() {
	st.env = append(st.env, "OMNI_CACHE_TTL_SECONDS=2")
	st.compose("up", "--detach", "--wait", "--no-deps", "omni-a", "omni-b")
	l := st.startLoad("emulator")
	st.compose("stop", "gsm-emulator")
	for _, replica := range []*server{st.a, st.b} {
		eventually(st.t, replica.api+" serves stale values", func() bool { return replica.status(apiKey)["stale"] == true })
		replica.do("POST", refreshPath, replica.service, "").want(http.StatusServiceUnavailable, domain.CodeRefreshFailed)
	}
	l.await("Secret Manager is gone", 400)
	st.wantEach()
	st.compose("start", "gsm-emulator")
	st.wantHealthy("gsm-emulator")
	for _, replica := range []*server{st.a, st.b} {
		eventually(st.t, replica.api+" serves fresh values, by itself", func() bool {
			row := replica.status(apiKey)
			return row["stale"] == false && row["cacheVersion"] == "1"
		})
	}
	l.await("Secret Manager is back", 200)
	l.finish()
}

func (st *stack) rollingRestart() {
	l := st.startLoad("rolling")
	for _, service := range []string{"omni-a", "omni-b"} {
		st.compose("restart", service)
		st.wantHealthy(service)
		l.await(service+" is back", 200)
	}
	l.finish()
	if l.diverts.Load() == 0 {
		st.t.Error("no read went to the second choice: nothing was restarted")
	}
}

func (st *stack) noTrace() {
	logs := st.compose("logs", "--no-color")
	if strings.Count(logs, `"msg":"ready"`) < 2 {
		st.t.Fatal("these are not the logs of both replicas")
	}
	for _, value := range []string{"sample-value-of-", "second-version-of-the-key", "injected", string(st.secret)} {
		if strings.Contains(logs, value) {
			st.t.Errorf("%s… is in a container's output", value)
		}
	}
}

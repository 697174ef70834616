package integration_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"go.yaml.in/yaml/v3"

	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

const (
	rulesFile       = "deploy/prometheus/rules/omni-secrets.yml"
	runbookFile     = "docs/runbook.md"
	runbookURL      = "https://github.com/apex-tradebill/omni-secrets/blob/main/" + runbookFile
	runbookOfAlerts = "Alerts by name"
)

// ofPrometheus are the series that Prometheus itself makes. Every series has the labels of its target besides.
var (
	ofPrometheus = map[string][]string{"up": nil, "ALERTS": {"alertname", "alertstate", "severity"}}
	ofTargets    = []string{"job", "instance"}
)

// rule is a recording or an alerting rule.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(read(t, rulesFile)), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// TestRulesAndDashboardAskForWhatIsExposed holds every query of the rules, the dashboard and the runbook against a
// server that has been through everything that makes series.
func TestRulesAndDashboardAskForWhatIsExposed(t *testing.T) {
	t.Parallel()
	exposed := exposedAfterEverything(t)
	known := make(map[string][]string) // labels by metric
	for metric, series := range exposed {
		for _, labels := range series {
			known[metric] = slices.AppendSeq(known[metric], maps.Keys(labels))
		}
	}
	maps.Copy(known, ofPrometheus)
	queries := make(map[string]string) // by where they are
	for _, r := range rules(t) {
		if r.Record != "" {
			known[r.Record] = labelsOfRecord(t, r.Record)
		}
		queries[r.Record+r.Alert] = r.Expr
	}
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries["panel "+p.Title+" "+target.RefID] = target.Expr
		}
	}
	for _, a := range d.Annotations.List {
		queries["annotation "+a.Name] = a.Expr
	}
	for _, v := range d.Templating.List {
		m := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(v.Definition)
		if v.Type == "query" && m == nil {
			t.Errorf("the variable %s asks %q", v.Name, v.Definition)
		} else if m != nil {
			queries["variable "+v.Name] = fmt.Sprintf("sum by (%s) (%s)", m[2], m[1])
		}
	}
	for _, b := range blocksOf(t, runbookFile, "promql") {
		queries[b.String()] = b.text
	}

	for where, expr := range queries {
		q, err := parseQuery(expr)
		if err != nil {
			t.Errorf("%s: %v: %s", where, err, expr)
			continue
		}
		if len(q.selectors) == 0 {
			t.Errorf("%s asks for no metric: %s", where, expr)
		}
		has := func(metric, label string) bool {
			return slices.Contains(known[metric], label) || slices.Contains(ofTargets, label)
		}
		for _, s := range q.selectors {
			if _, ok := known[s.metric]; !ok {
				t.Errorf("%s: there is no metric %s", where, s.metric)
				continue
			}
			for _, m := range s.matchers {
				if !has(s.metric, m.label) {
					t.Errorf("%s: %s has no label %s", where, s.metric, m.label)
				} else if exposed[s.metric] != nil && !slices.ContainsFunc(exposed[s.metric], m.matches) {
					t.Errorf("%s: no series of %s has %s%s%q", where, s.metric, m.label, m.op, m.value)
				}
			}
		}
		for _, g := range q.grouped {
			for _, metric := range g.metrics {
				if !has(metric, g.label) {
					t.Errorf("%s: %s has no label %s, which %s asks for", where, metric, g.label, g.keyword)
				}
			}
		}
	}
}

// matches reports whether a series fits. What it says of a target, what a variable of the dashboard stands for, and
// what must not be there is not known here.
func (m matcher) matches(labels map[string]string) bool {
	switch {
	case slices.Contains(ofTargets, m.label), strings.HasPrefix(m.value, "$"), strings.HasPrefix(m.op, "!"):
		return true
	case m.op == "=":
		return labels[m.label] == m.value
	default:
		return regexp.MustCompile("^(?:" + m.value + ")$").MatchString(labels[m.label])
	}
}

// labelsOfRecord reads the labels off a recording rule's name, which begins with them: job_secret_type:….
func labelsOfRecord(t *testing.T, name string) (labels []string) {
	t.Helper()
	rest, metric, _ := strings.Cut(name, ":")
	for rest += "_"; rest != ""; {
		i := slices.IndexFunc([]string{"job", "instance", "secret_type", "reason"}, func(l string) bool { return strings.HasPrefix(rest, l+"_") })
		if i < 0 || metric == "" {
			t.Fatalf("the name of the recording rule %s does not begin with its labels", name)
		}
		label := []string{"job", "instance", "secret_type", "reason"}[i]
		labels, rest = append(labels, label), strings.TrimPrefix(rest, label+"_")
	}
	return labels
}

// exposedAfterEverything is what /metrics shows, by name, once reads, failures and overrides have left their series.
func exposedAfterEverything(t *testing.T) map[string][]map[string]string {
	t.Helper()
	gsm := startEmulator(t)
	signing := base64.StdEncoding.EncodeToString([]byte("a signing key of 32 bytes for it"))
	s := prepareServe(t, gsm.endpoint, "OMNI_AUDIT_SIGNING_KEY="+signing).start(t)
	rpc := func(want connect.Code) {
		t.Helper()
		request := &secretsv1.GetSecretRequest{SecretType: string(apiKey)}
		if _, err := s.secrets(s.service).GetSecret(t.Context(), request); err != nil && connect.CodeOf(err) != want || err == nil && want != 0 {
			t.Fatalf("read by RPC: %v, want %v", err, want)
		}
	}
	s.do("POST", refreshPath, s.service, "").want(http.StatusAccepted, "")
	s.wantRead(apiKey, gsm.values[apiKey], "gsm", false)
	rpc(0)
	s.breakGlass(t, webhook, "a-value-for-a-while")
	s.do("DELETE", glassPath+"/"+string(webhook), s.ops, "").want(http.StatusNoContent, "")
	s.breakGlass(t, webhook, "a-value-that-stays")
	s.wantRead(webhook, "a-value-that-stays", "break_glass", false)

	gsm.steer("POST", "/secrets/omni-test/"+secretID(apiKey)+"/versions/1/disable", "")
	s.do("POST", refreshPath, s.service, `{"secretType":"trading_api_key"}`).want(http.StatusServiceUnavailable, "")
	s.do("GET", readPath+string(apiKey), s.service, "").want(http.StatusServiceUnavailable, "")
	rpc(connect.CodeUnavailable)
	s.do("POST", glassPath, s.ops, `{"secretType":"trading_api_key","ciphertext":"bm90aGluZw==","expiresAt":"2020-01-01T00:00:00Z"}`).
		want(http.StatusUnprocessableEntity, "")

	eventually(t, "the audit trail is signed", func() bool {
		return strings.Contains(s.do("GET", "/metrics", "", "").body, "\nomni_audit_checkpoint_timestamp_seconds ")
	})

	certFile, keyFile, trust := certificate(t)
	secure := prepareServe(t, gsm.endpoint, "OMNI_TLS_CERT_FILE="+certFile, "OMNI_TLS_KEY_FILE="+keyFile).start(t)
	secure.api = strings.Replace(secure.api, "http:", "https:", 1)
	overTLS := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}, Timeout: patience}
	defer overTLS.CloseIdleConnections()
	ofTLS, err := secure.tryWith(overTLS, "GET", "/metrics", "", "")
	if err != nil {
		t.Fatal(err)
	}

	exposed := make(map[string][]map[string]string)
	sample := regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? \S+$`)
	label := regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	for _, m := range sample.FindAllStringSubmatch(s.do("GET", "/metrics", "", "").want(http.StatusOK, "").body+ofTLS.want(http.StatusOK, "").body, -1) {
		labels := make(map[string]string)
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		exposed[m[1]] = append(exposed[m[1]], labels)
	}
	s.stop()
	secure.stop()
	return exposed
}

// TestEveryAlertSaysWhatToDo compares the alerts with the runbook, both ways.
func TestEveryAlertSaysWhatToDo(t *testing.T) {
	t.Parallel()
	headings := headingsOf(t, runbookFile)
	_, table, _ := strings.Cut(read(t, runbookFile), "\n## "+runbookOfAlerts+"\n")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := submatches(table, `(?m)^\| \[(Omni\w+)\]\(#\w+\) \| (page|ticket) \| `)
	alerts := 0
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts++
		if severity := r.Labels["severity"]; severity != "page" && severity != "ticket" {
			t.Errorf("%s has the severity %q", r.Alert, severity)
		} else if rows[r.Alert] != severity {
			t.Errorf("%s is a %s; the runbook's table says %q", r.Alert, severity, rows[r.Alert])
		}
		delete(rows, r.Alert)
		for _, annotation := range []string{"summary", "description"} {
			if r.Annotations[annotation] == "" {
				t.Errorf("%s has no %s", r.Alert, annotation)
			}
		}
		if want := runbookURL + "#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s leads to %q, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		if !slices.Contains(headings, r.Alert) {
			t.Errorf("%s has no section in the runbook", r.Alert)
			continue
		}
		_, section, _ := strings.Cut(read(t, runbookFile), "\n### "+r.Alert+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		for _, part := range []string{"**Means.**", "**Look.**", "**Do.**", "**Escalate**", "**Over when**"} {
			if !strings.Contains(section, part) {
				t.Errorf("the section of %s has no %s", r.Alert, part)
			}
		}
	}
	if alerts < 10 {
		t.Fatalf("only found %d alerts", alerts)
	}
	for name := range rows {
		t.Errorf("the runbook's table has %s, which no rule raises", name)
	}
}

// TestEveryAlertIsTested looks at the tests that promtool runs in CI.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../deploy/prometheus/tests/*_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, name := range files {
		var file struct {
			Tests []struct {
				Checks []struct {
					Name     string `yaml:"alertname"`
					Expected []struct {
						Annotations map[string]string `yaml:"exp_annotations"`
					} `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		if err := yaml.Unmarshal([]byte(read(t, strings.TrimPrefix(filepath.ToSlash(name), "../"))), &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, test := range file.Tests {
			for _, c := range test.Checks {
				quiet[c.Name] = quiet[c.Name] || len(c.Expected) == 0
				fires[c.Name] = fires[c.Name] || len(c.Expected) > 0 && c.Expected[0].Annotations["summary"] != ""
			}
		}
	}
	for _, r := range rules(t) {
		if r.Alert != "" && (!fires[r.Alert] || !quiet[r.Alert]) {
			t.Errorf("%s: a test in which it fires: %v, one in which it does not: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		delete(quiet, r.Alert)
	}
	for name := range quiet {
		t.Errorf("%s is tested, and no rule raises it", name)
	}
}

// TestAlertmanagerKnowsTheAlerts finds names in its configuration that no rule raises, and keys that do not belong there.
func TestAlertmanagerKnowsTheAlerts(t *testing.T) {
	t.Parallel()
	config := read(t, "deploy/alertmanager/alertmanager.yml")
	alerts := make(map[string]bool)
	for _, r := range rules(t) {
		alerts[r.Alert] = true
	}
	for name := range submatches(config, `\b(Omni[A-Z]\w+)\b`) {
		if !alerts[name] && !strings.Contains(config, name+".*") {
			t.Errorf("%s is no alert", name)
		}
	}
	if regexp.MustCompile(`(?m)^[^#\n]*\b(routing|service)_key:`).MatchString(config) {
		t.Error("a key is in the configuration; name its file instead")
	}
}

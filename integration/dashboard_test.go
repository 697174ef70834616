package integration_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const dashboardFile = "deploy/grafana/dashboards/omni-secrets.json"

// dashboard is the part of Grafana's JSON that is looked at.
type dashboard struct {
	UID           string
	SchemaVersion int
	Links         []link
	Panels        []panel
	Annotations   struct {
		List []struct {
			Name, Expr string
			Datasource datasource
		}
	}
	Templating struct {
		List []struct {
			Name, Type, Definition string
			Datasource             datasource
		}
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               datasource
	Targets                  []struct {
		RefID, Expr, LegendFormat string
		Datasource                datasource
	}
	Links       []link
	FieldConfig struct {
		Defaults  struct{ NoValue string }
		Overrides []struct {
			Matcher struct{ ID, Options string }
		}
	}
	Transformations []struct {
		Options struct {
			RenameByName map[string]string
		}
	}
}

type (
	link       struct{ URL string }
	datasource struct{ Type, UID string }
)

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboard looks for what Grafana would show wrongly, or not at all, without a word.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if d.UID != "omni-secrets" || d.SchemaVersion < 39 {
		t.Errorf("uid %q, schema version %d", d.UID, d.SchemaVersion)
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		if v.Type == "query" && v.Datasource.UID != "${datasource}" {
			t.Errorf("the variable %s asks %q", v.Name, v.Datasource.UID)
		}
	}
	for _, name := range []string{"datasource", "job", "instance", "secret_type"} {
		if !variables[name] {
			t.Errorf("there is no variable %s", name)
		}
	}
	anchors := anchorsOf(t, runbookFile)
	checkLink := func(where string, l link) {
		if anchor, ok := strings.CutPrefix(l.URL, runbookURL); !ok || anchor != "" && !slices.Contains(anchors, strings.TrimPrefix(anchor, "#")) {
			t.Errorf("%s links to %s, which the runbook does not have", where, l.URL)
		}
	}
	for _, l := range d.Links {
		checkLink("the dashboard", l)
	}
	for _, a := range d.Annotations.List {
		if a.Datasource.UID != "${datasource}" || a.Expr == "" {
			t.Errorf("the annotation %s asks %q for %q", a.Name, a.Datasource.UID, a.Expr)
		}
	}

	ids := make(map[int]string)
	taken := make(map[[2]int]string)
	rows, bottom := 0, 0
	for _, p := range d.Panels {
		if other, ok := ids[p.ID]; ok {
			t.Errorf("%s and %s have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		if g := p.GridPos; g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%s does not fit: %+v", p.Title, g)
		}
		bottom = max(bottom, p.GridPos.Y+p.GridPos.H)
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" && other != p.Title {
					t.Errorf("%s overlaps %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows++
			continue
		}
		p.check(t, variables)
		for _, l := range p.Links {
			checkLink(p.Title, l)
		}
	}
	if rows < 8 {
		t.Errorf("only %d rows", rows)
	}
	for y := range bottom {
		for x := range 24 {
			if taken[[2]int{x, y}] == "" {
				t.Fatalf("nothing is at column %d of line %d", x, y)
			}
		}
	}
}

// TestEveryMetricIsOnTheDashboard finds metrics that somebody counts and nobody sees. Their names are those in the
// adapter's source, since a server shows some of them only at times. That an alert asks for a metric is not enough: it
// says that a limit was passed, the panel how it came to that.
func TestEveryMetricIsOnTheDashboard(t *testing.T) {
	t.Parallel()
	recorded := make(map[string]string) // expressions by what they are recorded as
	for _, r := range rules(t) {
		if r.Record != "" {
			recorded[r.Record] = r.Expr
		}
	}
	shown := make(map[string]bool)
	var show func(expr string)
	show = func(expr string) {
		q, err := parseQuery(expr)
		if err != nil {
			t.Errorf("%v: %s", err, expr)
		}
		for _, s := range q.selectors {
			if shown[s.metric] {
				continue
			}
			shown[s.metric] = true
			if of, ok := recorded[s.metric]; ok {
				show(of)
			}
		}
	}
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			show(target.Expr)
		}
	}

	files, err := filepath.Glob("../adapters/otel/*.go")
	if err != nil {
		t.Fatal(err)
	}
	metrics := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for metric := range submatches(read(t, strings.TrimPrefix(filepath.ToSlash(file), "../")), `"(omni_\w+)"`) {
			metrics++
			if !shown[metric] && !shown[metric+"_bucket"] { // as a histogram is asked
				t.Errorf("no panel shows %s", metric)
			}
		}
	}
	if metrics < 20 {
		t.Fatalf("only found %d metrics", metrics)
	}
}

func (p panel) check(t *testing.T, variables map[string]bool) {
	t.Helper()
	if p.Title == "" || p.Description == "" || len(p.Links) == 0 || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
		t.Errorf("the panel %q lacks a title, a description, a link to the runbook, a target or the datasource variable", p.Title)
	}
	fields, refs := make(map[string]bool), make(map[string]bool)
	for _, target := range p.Targets {
		if target.Expr == "" || target.Datasource.UID != "${datasource}" || refs[target.RefID] {
			t.Errorf("%s: target %q asks %q for %q", p.Title, target.RefID, target.Datasource.UID, target.Expr)
		}
		refs[target.RefID] = true
		if mayBeEmpty.MatchString(target.Expr) && !strings.Contains(target.Expr, " or ") && p.FieldConfig.Defaults.NoValue == "" {
			t.Errorf("%s: it does not say what it means that %s gives nothing", p.Title, target.Expr)
		}
		for name := range submatches(target.Expr, `\$(\w+)`) {
			if !variables[name] {
				t.Errorf("%s: there is no variable $%s", p.Title, name)
			}
		}
		// A legend can only name labels that the result has.
		q, err := parseQuery(target.Expr)
		if err != nil {
			t.Errorf("%s: %v", p.Title, err)
		}
		result := slices.Clone(ofTargets)
		for _, g := range q.grouped {
			if g.keyword == "by" {
				result = append(result, g.label)
			}
		}
		for label := range submatches(target.LegendFormat, `\{\{(\w+)\}\}`) {
			if !slices.Contains(result, label) {
				t.Errorf("%s: the legend names %s, which %s does not give", p.Title, label, target.Expr)
			}
		}
	}
	for _, transformation := range p.Transformations {
		for field, name := range transformation.Options.RenameByName {
			fields[name] = true
			if ref, ok := strings.CutPrefix(field, "Value #"); ok && !refs[ref] {
				t.Errorf("%s: no target gives the column %s", p.Title, field)
			}
		}
	}
	for _, o := range p.FieldConfig.Overrides {
		if o.Matcher.ID != "byName" || !fields[o.Matcher.Options] {
			t.Errorf("%s: there is no column %s to override", p.Title, o.Matcher.Options)
		}
	}
}

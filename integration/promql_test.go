package integration_test

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// query is what a PromQL expression names. promtool says whether the expression is valid and what it gives; this
// says what it is about. Prometheus' own parser would add checksums of several clouds' SDKs to go.sum, and tidying
// would fetch them.
type query struct {
	selectors []selector
	grouped   []grouping
}

// selector is a metric's name with the matchers in its braces.
type selector struct {
	metric   string
	matchers []matcher
}

type matcher struct{ label, op, value string }

// grouping is a label in by(), on() or their like, and the metrics that are between the same parentheses as it or,
// for by(), in those that follow.
type grouping struct {
	keyword, label string
	metrics        []string
}

var (
	promToken   = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'(?:[^'\\\\]|\\\\.)*'|`[^`]*`|\\[[^\\]]*\\]|#[^\\n]*|[A-Za-z_:][A-Za-z0-9_:]*|[0-9][0-9A-Za-z.]*|[=!]~|[!=<>]=|\\S")
	promName    = regexp.MustCompile(`^[A-Za-z_:][A-Za-z0-9_:]*$`)
	promWords   = []string{"and", "or", "unless", "offset", "bool"}
	promLabels  = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	promComment = "#"
)

// parseQuery reads an expression in which by() is in front of the parentheses that it is about.
func parseQuery(expr string) (query, error) {
	p := &queryParser{}
	for _, token := range promToken.FindAllString(expr, -1) {
		if !strings.HasPrefix(token, promComment) {
			p.tokens = append(p.tokens, token)
		}
	}
	_, err := p.inside("")
	return p.found, err
}

type queryParser struct {
	tokens []string
	at     int
	found  query
}

func (p *queryParser) peek() string {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return ""
}

func (p *queryParser) next() string {
	token := p.peek()
	p.at++
	return token
}

// inside reads to the closing token and returns the metrics whose labels the result has: not those behind and or
// unless, which only filter.
func (p *queryParser) inside(closing string) (given []string, err error) {
	var metrics []string
	filters := false
	var open []grouping // whose metrics are all those in here
	by := grouping{}    // labels of the by() that was just read
	var byLabels []string
	for {
		token := p.next()
		switch {
		case token == closing:
			for _, g := range open {
				g.metrics = metrics
				p.found.grouped = append(p.found.grouped, g)
			}
			return given, nil
		case token == "" || token == ")":
			return nil, fmt.Errorf("the parentheses do not match")
		case token == "(":
			within, err := p.inside(")")
			if err != nil {
				return nil, err
			}
			for _, label := range byLabels {
				p.found.grouped = append(p.found.grouped, grouping{by.keyword, label, within})
			}
			byLabels = nil
			metrics = append(metrics, within...)
			if !filters {
				given = append(given, within...)
			}
		case token == "{":
			return nil, fmt.Errorf("a selector without a name")
		case slices.Contains(promLabels, token):
			labels := p.labels()
			if token == "by" || token == "without" {
				if by, byLabels = (grouping{keyword: token}), labels; p.peek() != "(" {
					return nil, fmt.Errorf("write %s in front of the parentheses", token)
				}
				continue
			}
			for _, label := range labels {
				open = append(open, grouping{keyword: token, label: label})
			}
		case slices.Contains(promWords, token):
			filters = token != "or" && (filters || token == "and" || token == "unless")
		case !promName.MatchString(token):
		case p.peek() == "(", p.peek() == "by", p.peek() == "without": // a function, or an aggregation
		default:
			p.found.selectors = append(p.found.selectors, selector{token, p.matchers()})
			metrics = append(metrics, token)
			if !filters {
				given = append(given, token)
			}
		}
	}
}

// labels reads a list such as (job, instance), if there is one.
func (p *queryParser) labels() (list []string) {
	if p.peek() != "(" {
		return nil
	}
	for token := p.next(); token != ")" && token != ""; token = p.next() {
		if promName.MatchString(token) {
			list = append(list, token)
		}
	}
	return list
}

// matchers reads a list such as {job="a", code=~"5.."}, if there is one.
func (p *queryParser) matchers() (list []matcher) {
	if p.peek() != "{" {
		return nil
	}
	for token := p.next(); token != "}" && token != ""; token = p.next() {
		if promName.MatchString(token) {
			list = append(list, matcher{token, p.next(), strings.Trim(p.next(), "\"'`")})
		}
	}
	return list
}

func TestWhatAQueryNames(t *testing.T) {
	for expr, want := range map[string]query{
		`rate(a{x="1", y=~"2|\"}"}[5m]) > 0.5`: {
			selectors: []selector{{"a", []matcher{{"x", "=", "1"}, {"y", "=~", `2|\"}`}}}},
		},
		"sum by (x, y) (a or b) / on (z) group_left c offset 5m": {
			selectors: []selector{{metric: "a"}, {metric: "b"}, {metric: "c"}},
			grouped: []grouping{
				{"by", "x", []string{"a", "b"}}, {"by", "y", []string{"a", "b"}}, {"on", "z", []string{"a", "b", "c"}},
			},
		},
		"histogram_quantile(0.9, sum by (le) (rate(a:b[$__rate_interval]))) # c": {
			selectors: []selector{{metric: "a:b"}}, grouped: []grouping{{"by", "le", []string{"a:b"}}},
		},
		"max by (y) (a offset 5m and on (x) (b == 1) or c)": {
			selectors: []selector{{metric: "a"}, {metric: "b"}, {metric: "c"}},
			grouped:   []grouping{{"on", "x", []string{"a", "b", "c"}}, {"by", "y", []string{"a", "c"}}},
		},
		"(a and on (x) (time() - b < 1e9)) or c": {
			selectors: []selector{{metric: "a"}, {metric: "b"}, {metric: "c"}},
			grouped:   []grouping{{"on", "x", []string{"a", "b"}}},
		},
	} {
		if got, err := parseQuery(expr); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v, %v\nwant %v", expr, got, err, want)
		}
	}
	for _, expr := range []string{"sum(a", "a)", `{x="1"}`, "sum(a) by (x)"} {
		if got, err := parseQuery(expr); err == nil {
			t.Errorf("%s is accepted: %v", expr, got)
		}
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Keys of what is measured, as they are in the JSON.
const (
	requestRate    = "requestsPerSecond"
	p50            = "p50Micros"
	p99            = "p99Micros"
	p999           = "p999Micros"
	cpuTime        = "cpuMicrosPerRequest"        // of the server, while it answers
	cpuTimeDrained = "cpuMicrosPerRequestDrained" // and until its audit events are in the database
	allocations    = "allocationsPerRequest"
	allocatedBytes = "allocatedBytesPerRequest"
	residentBytes  = "residentBytes"
)

// metrics are the columns of the tables.
var metrics = []struct {
	key, title string
	divisor    float64
}{
	{requestRate, "requests/s", 1},
	{p50, "p50, µs", 1},
	{p99, "p99, µs", 1},
	{p999, "p99.9, µs", 1},
	{cpuTime, "CPU µs/request", 1},
	{cpuTimeDrained, "the same, with drain", 1},
	{allocations, "allocations/request", 1},
	{allocatedBytes, "bytes/request", 1},
	{residentBytes, "RSS, MiB", 1 << 20},
}

// report is everything that was measured, and where.
type report struct {
	GoVersion       string    `json:"goVersion"`
	Platform        string    `json:"platform"`
	Processors      int       `json:"processors"`
	Revision        string    `json:"revision"` // of this program; "" when it is not known
	Began           time.Time `json:"began"`
	Rounds          int       `json:"rounds"`
	DurationSeconds float64   `json:"durationSeconds"` // of each measurement
	OpenRate        float64   `json:"openRate"`        // requests/s of the open loop, 0 for the closed one
	AnswerBytes     int       `json:"answerBytes"`     // of the body
	Results         []result  `json:"results"`

	samples []sample
}

// result is all rounds of one server at one number of connections.
type result struct {
	Server      string             `json:"server"`
	Connections int                `json:"connections"`
	Requests    uint64             `json:"requests"`
	Unsent      uint64             `json:"unsent"` // that were due in an open loop and given up
	Metrics     map[string]measure `json:"metrics"`
}

// measure is one number over the rounds.
type measure struct {
	spread
	ToBare *spread `json:"toBare,omitempty"` // the ratio to the bare server in the same round; nil when it was not measured
}

// spread is the median, the smallest and the largest of some numbers.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	slices.Sort(values)
	middle := len(values) / 2
	median := values[middle]
	if len(values)%2 == 0 {
		median = (values[middle-1] + values[middle]) / 2
	}
	return spread{median, values[0], values[len(values)-1]}
}

func (p *plan) newReport(f *field) *report {
	r := &report{
		GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(),
		Began: time.Now().UTC().Truncate(time.Second), Rounds: p.rounds, DurationSeconds: p.duration.Seconds(), OpenRate: p.rate,
		AnswerBytes: len(f.bare.Body),
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			if s.Key == "vcs.revision" {
				r.Revision = s.Value
			}
		}
	}
	return r
}

// summarize fills in the results: by the number of connections, and within it in the order of serverNames.
func (r *report) summarize() {
	type group struct {
		connections int
		server      string
	}
	rounds := make(map[group][]sample)
	var connections []int
	for _, s := range r.samples {
		g := group{s.connections, s.server}
		rounds[g] = append(rounds[g], s)
		if !slices.Contains(connections, s.connections) {
			connections = append(connections, s.connections)
		}
	}
	r.Results = nil
	for _, n := range connections {
		for _, name := range serverNames {
			if of := rounds[group{n, name}]; len(of) > 0 {
				r.Results = append(r.Results, resultOf(of, rounds[group{n, bareName}]))
			}
		}
	}
}

// resultOf summarizes the rounds of one server, beside those of the bare one.
func resultOf(rounds, bare []sample) result {
	one := result{Server: rounds[0].server, Connections: rounds[0].connections, Metrics: make(map[string]measure)}
	for _, s := range rounds {
		one.Requests += s.requests
		one.Unsent += s.unsent
	}
	for _, m := range metrics {
		var values, ratios []float64
		for i, s := range rounds {
			value, ok := s.values[m.key]
			if !ok {
				continue
			}
			values = append(values, value)
			if len(bare) > 0 && bare[i].values[m.key] > 0 {
				ratios = append(ratios, value/bare[i].values[m.key])
			}
		}
		if len(values) == 0 {
			continue
		}
		whole := measure{spread: spreadOf(values)}
		if len(ratios) > 0 {
			toBare := spreadOf(ratios)
			whole.ToBare = &toBare
		}
		one.Metrics[m.key] = whole
	}
	return one
}

func (r *report) writeJSON(w io.Writer) error {
	r.summarize()
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(r)
}

// writeTables writes a Markdown table for each number of connections: a row of values for each server and, below it,
// one of their ratios to the bare server's.
func (r *report) writeTables(w io.Writer) error {
	r.summarize()
	loop := "closed loop"
	if r.OpenRate > 0 {
		loop = fmt.Sprintf("open loop, %g requests/s", r.OpenRate)
	}
	fmt.Fprintf(w, "%s, %s, %d processors; %s; median (smallest to largest) of %d rounds of %gs; bodies of %d bytes\n",
		r.GoVersion, r.Platform, r.Processors, loop, r.Rounds, r.DurationSeconds, r.AnswerBytes)
	var rows [][]string
	for i, one := range r.Results {
		if len(rows) == 0 {
			header := []string{fmt.Sprintf("connections: %d", one.Connections)}
			for _, m := range metrics {
				header = append(header, m.title)
			}
			rows = append(rows, header)
		}
		rows = append(rows, one.rows()...)
		if i+1 == len(r.Results) || r.Results[i+1].Connections != one.Connections {
			if _, err := io.WriteString(w, "\n"+markdown(rows)); err != nil {
				return err
			}
			rows = nil
		}
	}
	for _, one := range r.Results {
		if one.Unsent > 0 {
			fmt.Fprintf(w, "\n%s at %d connections did not keep up: %d requests that were due were given up\n", one.Server, one.Connections, one.Unsent)
		}
	}
	return nil
}

func (one result) rows() [][]string {
	values, ratios := []string{one.Server}, []string{"× bare"}
	compared := false
	for _, m := range metrics {
		whole, ok := one.Metrics[m.key]
		if !ok {
			values, ratios = append(values, "–"), append(ratios, "–")
			continue
		}
		values = append(values, whole.text(m.divisor))
		if whole.ToBare == nil {
			ratios = append(ratios, "–")
			continue
		}
		compared = true
		ratios = append(ratios, fmt.Sprintf("%.2f (%.2f to %.2f)", whole.ToBare.Median, whole.ToBare.Min, whole.ToBare.Max))
	}
	if !compared || one.Server == bareName {
		return [][]string{values}
	}
	return [][]string{values, ratios}
}

func (s spread) text(divisor float64) string {
	median, smallest, largest := short(s.Median/divisor), short(s.Min/divisor), short(s.Max/divisor)
	if smallest == largest {
		return median
	}
	return fmt.Sprintf("%s (%s to %s)", median, smallest, largest)
}

// short is a number to three digits or so.
func short(v float64) string {
	digits := 0
	switch {
	case v < 10:
		digits = 2
	case v < 100:
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// markdown lays out a table, the first row as its header.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			b.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+1))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				b.WriteString("|" + strings.Repeat("-", width+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

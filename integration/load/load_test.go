package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestProgram runs it as `make load` does, as briefly as it can.
func TestProgram(t *testing.T) {
	load := filepath.Join(t.TempDir(), "load")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", load, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, flags := range map[string][]string{
		"closed loop": nil,
		"open loop":   {"-open", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
			defer cancel()
			args := append([]string{"-servers", "bare,sqlite", "-rounds", "1", "-duration", "50ms", "-connections", "1,4", "-dir", t.TempDir(), "-json"}, flags...)
			cmd := exec.CommandContext(ctx, load, args...)
			var out, progress bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &progress
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, progress.String())
			}
			wantReport(t, out.Bytes())
		})
	}
}

func wantReport(t *testing.T, text []byte) {
	t.Helper()
	var r report
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(&r); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(r.Results) != 4 || r.Rounds != 1 || r.DurationSeconds != 0.05 || r.AnswerBytes == 0 || r.Processors == 0 {
		t.Fatalf("not what was asked for:\n%s", text)
	}
	for i, one := range r.Results {
		if one.Server != []string{bareName, sqliteName}[i%2] || one.Connections != []int{1, 4}[i/2] || one.Requests == 0 {
			t.Errorf("result %d is of %s at %d connections, %d requests", i, one.Server, one.Connections, one.Requests)
		}
		wanted := []string{
			"requestsPerSecond", "p50Micros", "p99Micros", "p999Micros", "allocationsPerRequest", "allocatedBytesPerRequest",
		}
		if runtime.GOOS == "linux" {
			wanted = append(wanted, "cpuMicrosPerRequest", "cpuMicrosPerRequestDrained", "residentBytes")
		}
		for _, key := range wanted {
			if got := one.Metrics[key]; got.Median <= 0 || got.ToBare == nil || got.ToBare.Median <= 0 {
				t.Errorf("%s at %d connections: %s is %+v", one.Server, one.Connections, key, got)
			}
		}
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for mistake, want := range map[string]string{
		"-connections 1,x":         `"x" is not a number`,
		"-connections 0":           `"0" is not a number`,
		"-servers bare,nginx":      `"nginx" is none of bare, token`,
		"-servers bare,bare":       "twice",
		"-rounds 0":                "-rounds must be 1 or more",
		"-open -1":                 "-open not negative",
		"-cores -1":                "-cores neither",
		"-servers bare sqlite":     `no argument "sqlite"`,
		"-duration 0s -rounds 100": "-duration more than 0",
	} {
		_, err := parse(strings.Fields(mistake), new(bytes.Buffer))
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", mistake, err, want)
		}
	}
	var help bytes.Buffer
	if _, err := parse([]string{"-help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "Examples:") {
		t.Errorf("%v\n%s", err, help.String())
	}
}

func TestTables(t *testing.T) {
	r := &report{GoVersion: "go1.26", Platform: "linux/amd64", Processors: 2, Rounds: 2, DurationSeconds: 3, AnswerBytes: 271}
	for round, rates := range []map[string]float64{{bareName: 40_000, sqliteName: 20_000}, {bareName: 20_000, sqliteName: 16_000}} {
		for name, rate := range rates {
			r.samples = append(r.samples, sample{server: name, connections: 32, round: round, requests: 10, values: map[string]float64{requestRate: rate, p99: 7}})
		}
	}
	var out bytes.Buffer
	if err := r.writeTables(&out); err != nil {
		t.Fatal(err)
	}
	table := strings.Join(strings.Fields(strings.ReplaceAll(out.String(), "|", " ")), " ")
	for _, row := range []string{
		"closed loop; median (smallest to largest) of 2 rounds of 3s",
		"bare 30000 (20000 to 40000) – 7.00 –",
		"sqlite 18000 (16000 to 20000) – 7.00 –",
		"× bare 0.65 (0.50 to 0.80) – 1.00 (1.00 to 1.00) –",
	} {
		if !strings.Contains(table, row) {
			t.Errorf("no %q in\n%s", row, out.String())
		}
	}
}

package otel_test

import (
	"slices"
	"strings"
)

// labelsOf takes a line of a scrape apart into the series' name and the names of its labels, in order. No label
// value of the tests has a comma.
func labelsOf(line string) (name, labels string) {
	series, _, _ := strings.Cut(line, " ")
	name, rest, ok := strings.Cut(series, "{")
	if !ok {
		return name, ""
	}
	var names []string
	for pair := range strings.SplitSeq(strings.TrimSuffix(rest, "}"), ",") {
		label, _, _ := strings.Cut(pair, "=")
		names = append(names, label)
	}
	return name, sorted(strings.Join(names, ","))
}

func sorted(labels string) string {
	names := strings.Split(labels, ",")
	slices.Sort(names)
	return strings.Join(names, ",")
}

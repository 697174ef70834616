package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const threatModel = "docs/threat-model.md"

// TestThreatModelNamesTestsThatAreThere looks for each `folder.TestName` of the document in that folder. So a test
// that is renamed or removed takes its claim with it.
func TestThreatModelNamesTestsThatAreThere(t *testing.T) {
	named := regexp.MustCompile("`([a-z][a-z0-9/-]*)\\.((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(read(t, threatModel), -1)
	if len(named) < 40 {
		t.Fatalf("only found %d names of tests", len(named))
	}
	folders := make(map[string]map[string]string)
	for _, m := range named {
		folder, test := m[1], m[2]
		if folders[folder] == nil {
			folders[folder] = testsOf(t, folder)
		}
		if _, ok := folders[folder][test]; !ok {
			t.Errorf("%s is not in %s", test, folder)
		}
	}
}

// testsOf lists the tests and fuzz targets of a folder of the repository.
func testsOf(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]string)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name := range submatches(string(source), `(?m)^func ((?:Test|Fuzz)\w+)\(`) {
			tests[name] = ""
		}
	}
	return tests
}

// TestEveryClaimOfTheThreatModelWasSeenToFail compares the claims with the table of what was taken out, both ways.
func TestEveryClaimOfTheThreatModelWasSeenToFail(t *testing.T) {
	claims, failures, ok := strings.Cut(read(t, threatModel), "\n## How each test was seen to fail\n")
	if !ok {
		t.Fatal("the document does not say how each test was seen to fail")
	}
	const row = `(?m)^\| ([A-Z]\d+) \|(.*)\|$`
	claimed, seen := submatches(claims, row), submatches(failures, row)
	if len(claimed) < 20 {
		t.Fatalf("only found %d claims", len(claimed))
	}
	for id, claim := range claimed {
		if !regexp.MustCompile(`\.(Test|Fuzz)\w+`).MatchString(claim) {
			t.Errorf("%s names no test", id)
		}
		if _, ok := seen[id]; !ok {
			t.Errorf("%s was not seen to fail", id)
		}
	}
	for id := range seen {
		if _, ok := claimed[id]; !ok {
			t.Errorf("%s failed, and is not claimed", id)
		}
	}
}

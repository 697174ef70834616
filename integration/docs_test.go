package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// TestDocumentsAsWritten runs what the documents tell people to type, in order, against `omni-secrets dev`:
// blocks of sh in one shell for each document, then blocks of sql.
func TestDocumentsAsWritten(t *testing.T) {
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			skipUnlessCI(t, program+" is needed to try the documents; apt-get install "+program)
		}
	}
	for _, doc := range []string{"README.md", "docs/runbook.md"} {
		t.Run(doc, func(t *testing.T) {
			dir := t.TempDir()
			s := startDev(t, filepath.Join(dir, ".omni-dev"))
			runScript(t, dir, blocksOf(t, doc, "sh"))
			s.logged(domain.AlertBreakGlassApplied)
			s.logged(domain.AlertBreakGlassCleared, "cause", "refreshed")
			for _, b := range blocksOf(t, doc, "sql") {
				t.Logf("%s", b)
				s.query(b.text)
			}
			s.stop()
		})
	}
}

// runScript runs the blocks in one bash that ends at the first command that fails.
func runScript(t *testing.T, dir string, blocks []block) {
	t.Helper()
	var script strings.Builder
	for _, b := range blocks {
		fmt.Fprintf(&script, "printf '\\n== %%s\\n' '%s'\n%s\n", b, b.text)
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience) // some hundred programs one after another
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", file)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + dir}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("the block that is named last fails: %v\n%s", err, out.String())
	}
}

// TestGoProgramsInTheReadme builds and runs them against `omni-secrets dev`.
func TestGoProgramsInTheReadme(t *testing.T) {
	for _, b := range blocksOf(t, "README.md", "go") {
		dir := t.TempDir()
		s := startDev(t, filepath.Join(dir, ".omni-dev"))
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tmp", "token"), []byte(s.service), 0o600); err != nil {
			t.Fatal(err)
		}
		program := filepath.Join(dir, "program")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", program, filepath.Join(dir, "main.go"))
		build.Dir = ".." // in this module
		finish(t, build).want(t, 0)
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Dir = dir
		cmd.Env = []string{"OMNI_API_URL=" + s.api}
		finish(t, cmd).want(t, 0, "from local_file: [redacted]")
	}
}

// TestCatalogsInTheReadme lets the program read them. It stops for want of a database.
func TestCatalogsInTheReadme(t *testing.T) {
	found := 0
	for _, b := range blocksOf(t, "README.md", "yaml") {
		if !strings.HasPrefix(b.text, "secrets:") {
			continue
		}
		found++
		file := filepath.Join(t.TempDir(), "catalog.yaml")
		if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		env := []string{"OMNI_CATALOG_FILE=" + file, "GCP_PROJECT_ID=omni-test", "OMNI_LOCAL_FILE_DIR=" + t.TempDir()}
		r := run(t, env, "", "serve").want(t, 78, "DATABASE_URL is not set")
		if strings.Contains(r.stderr, "catalog") {
			t.Errorf("%s: %s", b, r.stderr)
		}
	}
	if found == 0 {
		t.Error("there is no catalog in the README")
	}
}

// TestEveryVariableIsInTheReadme compares its tables with the source, both ways, and the defaults with them.
func TestEveryVariableIsInTheReadme(t *testing.T) {
	server := submatches(read(t, "cmd/omni-secrets/config.go"), "env:\"(\\w+)\"(?: envDefault:\"([^\"]*)\")?")
	emulator := submatches(read(t, "cmd/gsm-emulator/options.go"), `"(OMNI_EMULATOR_\w+)", "([^"]*)"`)
	client := make(map[string]string)
	sources, err := filepath.Glob("../cmd/omni-secrets/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		for name := range submatches(read(t, strings.TrimPrefix(source, "../")), `"(OMNI_[A-Z0-9_]+)"`) {
			if _, known := server[name]; !known {
				client[name] = ""
			}
		}
	}
	for _, table := range []struct {
		heading string
		want    map[string]string // defaults by name
	}{{"### Server", server}, {"### Client commands", client}, {"### Emulator", emulator}} {
		t.Run(table.heading, func(t *testing.T) {
			_, section, _ := strings.Cut(read(t, "README.md"), "\n"+table.heading+"\n")
			section, _, _ = strings.Cut(section, "\n#")
			rows := submatches(section, "(?m)^\\| `(\\w+)` \\| .+ \\| (.*) \\|$")
			if len(table.want) == 0 || len(rows) == 0 {
				t.Fatalf("found %d variables and %d rows", len(table.want), len(rows))
			}
			for name, value := range table.want {
				row, ok := rows[name]
				if !ok {
					t.Errorf("%s has no row", name)
				} else if value != "" && !strings.Contains(row, "`"+value+"`") {
					t.Errorf("the default of %s is %q; its row says %s", name, value, row)
				}
			}
			for name := range rows {
				if _, ok := table.want[name]; !ok {
					t.Errorf("%s has a row, and nothing reads it", name)
				}
			}
		})
	}
}

func TestEveryCommandIsInTheReadme(t *testing.T) {
	help := run(t, nil, "", "--help").want(t, 0).stdout
	commands := submatches(help, `(?m)^  ([a-z]+)  +[A-Z]`)
	if len(commands) < 10 {
		t.Fatalf("only found the commands %v", commands)
	}
	_, section, _ := strings.Cut(read(t, "README.md"), "\n## Command line\n")
	section, _, _ = strings.Cut(section, "\n#")
	for command := range commands {
		row := regexp.MustCompile("(?m)^\\|[^|]*`" + command + "[ `]")
		if command != "help" && command != "completion" && !row.MatchString(section) {
			t.Errorf("%s has no row", command)
		}
	}
}

func TestEveryErrorCodeIsDocumented(t *testing.T) {
	codes := submatches(read(t, "domain/error.go"), `Code = "([A-Z_]+)"`)
	rows := submatches(read(t, "docs/api.md"), "(?m)^\\| `([A-Z_]+)` \\| (\\d{3}) \\|")
	_, enum, _ := strings.Cut(read(t, "adapters/http/openapi.yaml"), "enum: [UNAUTHENTICATED,")
	enum, _, _ = strings.Cut("UNAUTHENTICATED,"+enum, "]")
	specified := submatches(enum, `([A-Z_]+)`)
	if len(codes) < 10 {
		t.Fatalf("only found the codes %v", codes)
	}
	for code := range codes {
		if _, ok := rows[code]; !ok {
			t.Errorf("%s is not in docs/api.md", code)
		}
		if _, ok := specified[code]; !ok && code != string(domain.CodeShuttingDown) { // ends streams, which REST has not
			t.Errorf("%s is not in adapters/http/openapi.yaml", code)
		}
	}
	for code := range rows {
		if _, ok := codes[code]; !ok {
			t.Errorf("docs/api.md has %s, which does not exist", code)
		}
	}
}

// TestCodesOfConnectAreDocumented compares the column of docs/api.md with the table of the adapter.
func TestCodesOfConnectAreDocumented(t *testing.T) {
	names := submatches(read(t, "domain/error.go"), `(Code\w+) +Code = "([A-Z_]+)"`)
	rows := submatches(read(t, "docs/api.md"), "(?m)^\\| `([A-Z_]+)` \\| \\d{3} \\| `([a-z_]+)` \\|")
	codes := submatches(read(t, "adapters/connect/failure.go"), `domain\.(Code\w+): +connect\.Code(\w+),`)
	if len(codes) < 10 {
		t.Fatalf("only found the codes %v", codes)
	}
	capital := regexp.MustCompile(`\B[A-Z]`)
	for name, code := range codes {
		want := strings.ToLower(capital.ReplaceAllString(code, "_$0"))
		if got := rows[names[name]]; got != want {
			t.Errorf("%s is %q to Connect, docs/api.md says %q", names[name], want, got)
		}
	}
}

// TestProceduresAreDocumented looks for each of the contract in docs/api.md.
func TestProceduresAreDocumented(t *testing.T) {
	for _, file := range []string{"secrets", "ops"} {
		procedures := submatches(read(t, "proto/omni/secrets/v1/"+file+".proto"), `rpc (\w+)\(`)
		if len(procedures) < 3 {
			t.Fatalf("only found the procedures %v", procedures)
		}
		for procedure := range procedures {
			if !strings.Contains(read(t, "docs/api.md"), "`"+procedure+"`") {
				t.Errorf("%s is not in docs/api.md", procedure)
			}
		}
	}
}

func TestEveryAlertHasASectionInTheRunbook(t *testing.T) {
	alerts := submatches(read(t, "domain/alert.go"), `= "(omni\.[a-z_.]+)"`)
	if len(alerts) < 5 {
		t.Fatalf("only found the alerts %v", alerts)
	}
	headings := headingsOf(t, "docs/runbook.md")
	for alert := range alerts {
		if !slices.Contains(headings, alert) {
			t.Errorf("%s has no section in docs/runbook.md", alert)
		}
	}
}

func TestEveryDirectDependencyHasAReason(t *testing.T) {
	modules := submatches(read(t, "go.mod"), `(?m)^\t(\S+) v\S+$`)
	if len(modules) < 10 {
		t.Fatalf("only found the modules %v", modules)
	}
	decisions := read(t, "docs/decisions.md")
	for module := range modules {
		if !strings.Contains(decisions, "`"+module+"`") {
			t.Errorf("%s is not in the table of docs/decisions.md", module)
		}
	}
}

// TestEnvelopesInTheAPIDocument compares its examples with the golden files.
func TestEnvelopesInTheAPIDocument(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		var golden struct{ PrivateKey, PublicKey, Ciphertext string }
		if err := json.Unmarshal([]byte(read(t, "adapters/envelope/testdata/"+version+".json")), &golden); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{golden.PrivateKey, golden.PublicKey, golden.Ciphertext} {
			if !strings.Contains(read(t, "docs/api.md"), part) {
				t.Errorf("docs/api.md does not show %s of %s.json", part, version)
			}
		}
	}
}

func TestLinksBetweenDocuments(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	checked := 0
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(prose(read(t, doc)), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") { // another site
				continue
			}
			checked++
			file := doc
			if target != "" {
				file = path.Join(path.Dir(doc), target)
			}
			if _, err := os.Stat(filepath.Join("..", file)); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, m[1])
			} else if fragment != "" && !slices.Contains(anchorsOf(t, file), fragment) {
				t.Errorf("%s links to %s, which has no such heading", doc, m[1])
			}
		}
	}
	if checked < 10 {
		t.Errorf("only found %d links", checked)
	}
}

// block is a fenced block of a document.
type block struct {
	doc  string
	line int
	lang string
	text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.doc, b.line) }

// blocksOf lists the blocks of one language, at least one.
func blocksOf(t testing.TB, doc, lang string) []block {
	t.Helper()
	var found []block
	var open *block
	number := 0
	for line := range strings.Lines(read(t, doc)) {
		number++
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{doc: doc, line: number + 1, lang: fence}
		case isFence:
			if open.lang == lang {
				found = append(found, *open)
			}
			open = nil
		case open != nil:
			open.text += line
		}
	}
	if open != nil {
		t.Fatalf("%s: the block is not closed", open)
	}
	if len(found) == 0 {
		t.Fatalf("%s has no %s block", doc, lang)
	}
	return found
}

var fenced = regexp.MustCompile("(?ms)^ *```.*?\\n *```$")

// prose is a document without its blocks.
func prose(text string) string { return fenced.ReplaceAllString(text, "") }

// headingsOf lists the headings of a document.
func headingsOf(t *testing.T, doc string) []string {
	t.Helper()
	var headings []string
	for line := range strings.Lines(prose(read(t, doc))) {
		if text, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			headings = append(headings, strings.TrimSpace(text))
		}
	}
	return headings
}

// anchorsOf lists what a link to a heading of the document ends in, as GitHub makes it.
func anchorsOf(t *testing.T, doc string) []string {
	t.Helper()
	var anchors []string
	for _, heading := range headingsOf(t, doc) {
		anchors = append(anchors, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			default:
				return -1
			}
		}, heading))
	}
	return anchors
}

// documents lists every Markdown file of the repository, by its path within it.
func documents(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if strings.HasSuffix(file, ".md") {
			found = append(found, filepath.ToSlash(strings.TrimPrefix(file, ".."+string(filepath.Separator))))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// read is a file of the repository.
func read(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// submatches maps what the first group of pattern matches to what its second does, if it has one.
func submatches(text, pattern string) map[string]string {
	found := make(map[string]string)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found[m[1]] = strings.Join(m[2:], "")
	}
	return found
}

// TestImagesAreBuiltOfAllThatTheProgramsImport keeps .dockerignore from leaving out a folder: the build of the images
// would say so, but that takes minutes.
func TestImagesAreBuiltOfAllThatTheProgramsImport(t *testing.T) {
	const module = "github.com/apex-tradebill/omni-secrets/"
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/...")
	list.Dir = ".."
	packages, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	ignore := strings.Split(read(t, ".dockerignore"), "\n")
	for pkg := range strings.Lines(string(packages)) {
		path, ours := strings.CutPrefix(strings.TrimSpace(pkg), module)
		folder, _, _ := strings.Cut(path, "/")
		if ours && !slices.Contains(ignore, "!"+folder) {
			t.Errorf("%s is not in the images: .dockerignore lacks !%s", path, folder)
		}
	}
}

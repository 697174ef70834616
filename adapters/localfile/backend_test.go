package localfile_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/localfile"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

// open returns a backend over a new folder.
func open(t *testing.T) (b *localfile.Backend, dir string) {
	t.Helper()
	dir = t.TempDir()
	b, err := localfile.New(dir)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b, dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts content in the file's place at once, as every writer should.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestSecretBackend(t *testing.T) {
	porttest.RunSecretBackend(t, func(t *testing.T) porttest.BackendHarness {
		b, dir := open(t)
		path := filepath.Join(dir, "trading_api_key")
		return porttest.BackendHarness{
			Backend: b, Reference: "trading_api_key", Unknown: "no_such_key",
			Put: func(t *testing.T, value []byte) string {
				replace(t, path, string(value))
				return ""
			},
			Remove: func(t *testing.T) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func fetch(t *testing.T, b *localfile.Backend, reference, wantValue string) (version string) {
	t.Helper()
	got, err := b.Fetch(t.Context(), reference, domain.LatestVersion)
	if err != nil {
		t.Fatalf("Fetch(%q): %v", reference, err)
	}
	if string(got.Value.Reveal()) != wantValue {
		t.Errorf("Fetch(%q) gave %q, want %q", reference, got.Value.Reveal(), wantValue)
	}
	return got.Version
}

func wantReason(t *testing.T, b *localfile.Backend, reference string, want domain.Reason) {
	t.Helper()
	_, err := b.Fetch(t.Context(), reference, domain.LatestVersion)
	if err == nil || domain.ReasonOf(err) != want {
		t.Errorf("Fetch(%q) failed with %v, want %s", reference, err, want)
	}
}

func TestVersionNamesTheChange(t *testing.T) {
	b, dir := open(t)
	before := time.Now().Add(-time.Second)
	write(t, filepath.Join(dir, "key"), "value")
	version := fetch(t, b, "key", "value")
	at, inode, ok := strings.Cut(version, "-")
	changed, err := time.Parse("20060102T150405.000000000Z", at)
	if !ok || inode == "" || err != nil || changed.Before(before) || changed.After(time.Now()) {
		t.Errorf("the version is %q, want the UTC time of the change, a dash and the inode", version)
	}
}

func TestWritingIntoTheFileIsANewVersion(t *testing.T) {
	b, dir := open(t)
	path := filepath.Join(dir, "key")
	seen := make(map[string]bool)
	for _, value := range []string{"aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg", "hhhh"} {
		write(t, path, value) // the same inode, the same size, within one step of the file system's clock
		version := fetch(t, b, "key", value)
		if seen[version] {
			t.Fatalf("version %q was another value's", version)
		}
		seen[version] = true
	}
}

func TestSettingTheModificationTimeBackHidesNothing(t *testing.T) {
	b, dir := open(t)
	path := filepath.Join(dir, "key")
	past := time.Now().Add(-time.Hour)
	var versions []string
	for _, value := range []string{"old!", "new!"} {
		write(t, path, value)
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, fetch(t, b, "key", value))
	}
	if versions[0] == versions[1] {
		t.Errorf("both values are version %q", versions[0])
	}
}

func TestNumberedVersionsAreFilesOfTheirOwn(t *testing.T) {
	b, dir := open(t)
	for name, value := range map[string]string{"key": "served", "key@2": "second", "key@10": "tenth", "team/key": "x", "team/key@1": "first of the team"} {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), value)
	}
	for _, c := range []struct{ reference, version, value string }{
		{"key", "2", "second"}, {"key", "10", "tenth"}, {"team/key", "1", "first of the team"},
	} {
		got, err := b.Fetch(t.Context(), c.reference, c.version)
		if err != nil || got.Version != c.version || string(got.Value.Reveal()) != c.value {
			t.Errorf("version %s of %s: %q, version %q, %v", c.version, c.reference, got.Value.Reveal(), got.Version, err)
		}
	}
	for _, version := range []string{"1", "3", "02", "2 ", "@2", "2/../10", "latest@2"} {
		if got, err := b.Fetch(t.Context(), "key", version); domain.ReasonOf(err) != domain.ReasonNotFound {
			t.Errorf("version %q: version %q, %v; want none", version, got.Version, err)
		}
	}
	if version := fetch(t, b, "key", "served"); domain.NumberedVersion(version) {
		t.Errorf("latest is version %q", version)
	}
}

func TestNumberedVersionIsNoReference(t *testing.T) {
	b, dir := open(t)
	write(t, filepath.Join(dir, "key@2"), "second")
	write(t, filepath.Join(dir, "ana@home"), "value")
	if err := localfile.ValidateReference("key@2"); err == nil || !strings.Contains(err.Error(), `"key"`) {
		t.Errorf("key@2 is taken for a reference: %v", err)
	}
	wantReason(t, b, "key@2", domain.ReasonNotFound)
	fetch(t, b, "ana@home", "value")
}

// The layout of the volumes that Kubernetes mounts:
// https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter
func TestKubernetesVolume(t *testing.T) {
	b, dir := open(t)
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(folder, value string) {
		t.Helper()
		write(t, filepath.Join(dir, folder, "key"), value)
		link(folder, "..data_tmp")
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("..2026_11_23_19_17_00.1", "first")
	link("..data/key", "key")
	first := fetch(t, b, "key", "first")
	swap("..2026_11_23_19_18_00.2", "after")
	second := fetch(t, b, "key", "after")
	if first == second {
		t.Errorf("both values are version %q", first)
	}
	if err := os.RemoveAll(filepath.Join(dir, "..2026_11_23_19_17_00.1")); err != nil {
		t.Fatal(err)
	}
	if again := fetch(t, b, "key", "after"); again != second {
		t.Errorf("removing the old folder made version %q of %q", again, second)
	}
}

func TestNothingOutsideTheFolderIsRead(t *testing.T) {
	b, dir := open(t)
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, "not for you")
	for name, target := range map[string]string{
		"absolute": outside,
		"relative": "../" + filepath.Base(filepath.Dir(outside)) + "/outside",
		"folder":   filepath.Dir(outside),
		"loop":     "loop",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, reference := range []string{"absolute", "relative", "folder/outside", "loop", outside, "../outside", "a/../../outside", `..\outside`} {
		wantReason(t, b, reference, domain.ReasonNotFound)
	}
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	b, dir := open(t)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, reference := range []string{"folder", "pipe", "socket"} {
		wantReason(t, b, reference, domain.ReasonInvalidPayload) // and does not wait for a writer of the pipe
	}
	wantReason(t, b, "folder/missing", domain.ReasonNotFound)
	wantReason(t, b, "pipe/below", domain.ReasonNotFound)
}

func TestAnEnormousFileIsNotRead(t *testing.T) {
	b, dir := open(t)
	path := filepath.Join(dir, "key")
	write(t, path, "x")
	if err := os.Truncate(path, 1<<40); err != nil { // sparse: reading it would exhaust the memory
		t.Fatal(err)
	}
	wantReason(t, b, "key", domain.ReasonInvalidPayload)
}

func TestAClosedBackendFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "key"), "value")
	b, err := localfile.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	wantReason(t, b, "key", domain.ReasonUnavailable)
}

func TestNewNeedsAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	for name, dir := range map[string]string{"missing": file + "-missing", "a file": file} {
		t.Run(name, func(t *testing.T) {
			if b, err := localfile.New(dir); err == nil {
				b.Close()
				t.Error("New succeeded")
			} else if !strings.Contains(err.Error(), dir) {
				t.Errorf("the error %q does not name the folder", err)
			}
		})
	}
}

func FuzzValidateReference(f *testing.F) {
	for _, seed := range []string{"trading_api_key", "a/b", "", ".", "..", "/a", "a//b", "a/", `a\..\b`, "a\x00b", "..data/key", "a@2", "@"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	b, err := localfile.New(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() })
	f.Fuzz(func(t *testing.T, reference string) {
		_, err := b.Fetch(t.Context(), reference, domain.LatestVersion)
		if domain.ReasonOf(err) != domain.ReasonNotFound {
			t.Errorf("Fetch(%q) in an empty folder failed with %v", reference, err)
		}
		if localfile.ValidateReference(reference) == nil && !filepath.IsLocal(reference) {
			t.Errorf("%q leaves the folder", reference)
		}
	})
}

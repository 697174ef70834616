// Package catalogfile reads the catalog of secrets from YAML, and holds the one that is used when no other is
// given. catalog.yaml explains the fields.
package catalogfile

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Limits of a catalog file.
const (
	MaxBytes   = 4 << 20
	MaxSecrets = 10_000
)

//go:embed catalog.yaml
var embedded []byte

// Default is the embedded catalog file.
func Default() []byte { return slices.Clone(embedded) }

type document struct {
	Secrets []entry `yaml:"secrets"`
}

type entry struct {
	Type           domain.SecretType `yaml:"type"`
	Owner          string            `yaml:"owner"`
	Backend        string            `yaml:"backend"`
	Reference      string            `yaml:"reference"`
	Version        string            `yaml:"version"`
	RotationMonths whole             `yaml:"rotationMonths"`
	Readers        []string          `yaml:"readers"`
	Policy         policy            `yaml:"policy"`
	Validators     []validator       `yaml:"validators"`
}

type policy struct {
	TTL         duration `yaml:"ttl"`
	MaxStale    duration `yaml:"maxStale"`
	DeniedGrace duration `yaml:"deniedGrace"`
}

// duration is written as time.ParseDuration reads it. Zero is refused, since domain.Entry takes it for none and
// whoever writes 0s means something else.
type duration time.Duration

func (d *duration) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := time.ParseDuration(node.Value)
	if err != nil || parsed <= 0 {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf(
			"line %d: %q is not a positive duration such as 90s or 5m; leave it out for the default", node.Line, node.Value)}}
	}
	*d = duration(parsed)
	return nil
}

// whole is a number that the decoder may not round: it makes 1 of 1.5.
type whole int

func (w *whole) UnmarshalYAML(node *yaml.Node) error {
	if node.ShortTag() != "!!int" {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is not a whole number", node.Line, node.Value)}}
	}
	return node.Decode((*int)(w))
}

func (e entry) domain() domain.Entry {
	return domain.Entry{
		Type: e.Type, Backend: e.Backend, Reference: e.Reference, Version: e.Version, Owner: e.Owner,
		RotationMonths: int(e.RotationMonths), Readers: e.Readers,
		TTL: time.Duration(e.Policy.TTL), MaxStale: time.Duration(e.Policy.MaxStale), DeniedGrace: time.Duration(e.Policy.DeniedGrace),
		Validators: validators(e.Validators),
	}
}

// Parse reads a catalog file. Variables in references are replaced with what getenv, such as os.Getenv, gives
// for them. Unknown and repeated fields are errors. The error lists, with line numbers, everything that is wrong
// with the file's form, or else everything that is wrong with what it says, as domain.Catalog.Validate sees it.
func Parse(text []byte, getenv func(string) string) (domain.Catalog, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("catalog: the file is larger than %d bytes", MaxBytes)
	}
	root, err := onlyDocument(text)
	if err != nil {
		return nil, err
	}
	var d document
	strict := yaml.NewDecoder(bytes.NewReader(text))
	strict.KnownFields(true)
	if err := strict.Decode(&d); err != nil {
		return nil, inOurWords(err)
	}

	if err := refuseNulls(root); err != nil {
		return nil, err
	}

	if len(d.Secrets) > MaxSecrets {
		return nil, fmt.Errorf("catalog: it lists %d secrets; %d are allowed", len(d.Secrets), MaxSecrets)
	}

	lines := linesOf(root)
	catalog := make(domain.Catalog, len(d.Secrets))
	references := newReferences(getenv)
	for i, e := range d.Secrets {
		e.Reference = references.expand(e.Reference, lines.at(i))
		catalog[i] = e.domain()
	}
	if err := errors.Join(references.err(), validate(catalog, lines)); err != nil {
		return nil, err
	}
	return catalog, nil
}

// onlyDocument refuses a second document, which a decoder would pass over in silence.
func onlyDocument(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root, next yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return nil, errors.New("catalog: the file is empty")
	} else if err != nil {
		return nil, inOurWords(err)
	}
	switch err := decoder.Decode(&next); {
	case errors.Is(err, io.EOF):
		return &root, nil
	case err != nil:
		return nil, inOurWords(err)
	default:
		return nil, fmt.Errorf("catalog: line %d: a second document begins; only one is read", next.Line)
	}
}

// refuseNulls refuses what has no value. The decoder leaves such an item out of its list in silence: a list of readers
// would be empty, which lets everybody read.
func refuseNulls(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" {
		return fmt.Errorf("catalog: line %d: a value is missing; write one, or leave the item or field out", node.Line)
	}
	for _, child := range node.Content {
		if err := refuseNulls(child); err != nil {
			return err
		}
	}
	return nil
}

// goType is what the decoder adds to its messages for Go programmers.
var goType = regexp.MustCompile(` (in type|into) [][*\w.]*catalogfile\.\w+$`)

// inOurWords makes an error of each complaint of the decoder.
func inOurWords(err error) error {
	complaints := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if types, ok := errors.AsType[*yaml.TypeError](err); ok {
		complaints = types.Errors
	}
	errs := make([]error, len(complaints))
	for i, complaint := range complaints {
		errs[i] = errors.New("catalog: " + goType.ReplaceAllString(complaint, ""))
	}
	return errors.Join(errs...)
}

package catalogfile

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// maxReported bounds the errors that are listed: a file of another kind would give thousands.
const maxReported = 100

// entryLines are the lines on which the entries begin, as far as they are known.
type entryLines []int

func linesOf(root *yaml.Node) entryLines {
	if root.Kind != yaml.DocumentNode || len(root.Content) == 0 {
		return nil
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil
	}
	var lines entryLines
	for i := 0; i+1 < len(top.Content); i += 2 {
		if top.Content[i].Value != "secrets" {
			continue
		}
		for _, item := range top.Content[i+1].Content {
			lines = append(lines, item.Line)
		}
	}
	return lines
}

// at is the line of entry i, 0 when it is not known.
func (l entryLines) at(i int) int {
	if i >= 0 && i < len(l) {
		return l[i]
	}
	return 0
}

// validate puts the line of the entry to each of the catalog's errors, which begin with the entry's number.
func validate(c domain.Catalog, lines entryLines) error {
	err := c.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var errs []error
	for i, err := range joined.Unwrap() {
		if i == maxReported {
			errs = append(errs, fmt.Errorf("catalog: and %d more", len(joined.Unwrap())-i))
			break
		}
		var number int
		if _, scanErr := fmt.Sscanf(err.Error(), "catalog: entry %d ", &number); scanErr == nil && lines.at(number-1) > 0 {
			err = fmt.Errorf("%w (line %d)", err, lines.at(number-1))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

package catalogfile

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// projectID is the variable that references may hold. Others would let any environment variable become a part
// of a secret's name, and so of logs and tables.
const projectID = "GCP_PROJECT_ID"

var (
	variable = regexp.MustCompile(`\$\{([^}]*)\}`)
	// projectValue is what a project id, also one with a domain, or number is made of
	// (https://cloud.google.com/resource-manager/docs/creating-managing-projects). A slash in it would point
	// the reference elsewhere. What Secret Manager would refuse is refused here, where the variable is named.
	projectValue = regexp.MustCompile(`^(?:(?:[a-z0-9.-]+:)?[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[0-9]{1,19})$`)
)

// references replaces the variables in references and collects what is wrong with them.
type references struct {
	project string
	waiting []string // the lines that need the project while it is not set
	errs    []error
}

func newReferences(getenv func(string) string) *references {
	return &references{project: getenv(projectID)}
}

// expand replaces the variables of the reference of the entry on line. Where that fails, the reference stays as
// it is, so that it is not also reported as missing.
func (r *references) expand(reference string, line int) string {
	for _, match := range variable.FindAllStringSubmatch(reference, -1) {
		if match[1] != projectID {
			r.errs = append(r.errs, fmt.Errorf("catalog: line %d: reference holds ${%s}; only ${%s} is replaced", line, match[1], projectID))
			return reference
		}
	}
	if strings.Contains(variable.ReplaceAllString(reference, ""), "$") {
		r.errs = append(r.errs, fmt.Errorf("catalog: line %d: reference holds a $ that begins no variable; write ${%s}", line, projectID))
		return reference
	}
	if !strings.Contains(reference, "$") {
		return reference
	}
	if r.project == "" || !projectValue.MatchString(r.project) {
		r.waiting = append(r.waiting, strconv.Itoa(line))
		return reference
	}
	return variable.ReplaceAllLiteralString(reference, r.project)
}

func (r *references) err() error {
	errs := r.errs
	if len(r.waiting) > 0 {
		lines := strings.Join(r.waiting, ", ")
		if r.project == "" {
			errs = append(errs, fmt.Errorf("catalog: %s is not set; set it to the Google Cloud project of the secrets on lines %s", projectID, lines))
		} else {
			errs = append(errs, fmt.Errorf("catalog: %s is %q, which is no Google Cloud project id; the secrets on lines %s need it", projectID, r.project, lines))
		}
	}
	return errors.Join(errs...)
}

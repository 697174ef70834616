package gsm

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Shapes of the parts of a reference. Projects: an id, a number, or an old id with its domain
// (https://cloud.google.com/resource-manager/docs/creating-managing-projects); how long an id may be is left to
// Secret Manager, so that emulators can have short ones. Secrets and aliases: the
// comments of the v1 API. A location becomes a part of a host name, so it is one DNS label.
var (
	projectPattern  = regexp.MustCompile(`^(?:(?:[a-z0-9.-]+:)?[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[0-9]{1,19})$`)
	locationPattern = regexp.MustCompile(`^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$`)
	secretPattern   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	numberPattern   = regexp.MustCompile(`^[1-9][0-9]{0,17}$`)
	aliasPattern    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,62}$`)
)

// reference is the name of a secret, taken apart.
type reference struct {
	project  string
	location string // "" for a global secret
	secret   string
}

// ValidateReference reports what is wrong with the name of a secret. It must be
//
//	projects/PROJECT/secrets/SECRET, or
//	projects/PROJECT/locations/LOCATION/secrets/SECRET for a regional secret.
//
// Whether the secret exists is not asked.
func ValidateReference(s string) error {
	_, err := parseReference(s)
	return err
}

func parseReference(s string) (reference, error) {
	wrong := func(format string, args ...any) (reference, error) {
		return reference{}, fmt.Errorf("reference %q: %s", s, fmt.Sprintf(format, args...))
	}
	var r reference
	switch parts := strings.Split(s, "/"); {
	case len(parts) == 4 && parts[0] == "projects" && parts[2] == "secrets":
		r = reference{project: parts[1], secret: parts[3]}
	case len(parts) == 6 && parts[0] == "projects" && parts[2] == "locations" && parts[4] == "secrets":
		r = reference{project: parts[1], location: parts[3], secret: parts[5]}
		if !locationPattern.MatchString(r.location) {
			return wrong("location %q must be the name of a region, such as europe-west3", r.location)
		}
	case strings.Contains(s, "/versions/"):
		return wrong("the version does not belong into the reference; give it as the version")
	default:
		return wrong("must be projects/PROJECT/secrets/SECRET or projects/PROJECT/locations/LOCATION/secrets/SECRET")
	}
	if !projectPattern.MatchString(r.project) {
		return wrong("project %q must be lower-case letters, digits and -, beginning with a letter, or a project's number", r.project)
	}
	if !secretPattern.MatchString(r.secret) {
		return wrong("secret %q must be 1 to 255 letters, digits, - and _", r.secret)
	}
	return r, nil
}

// name is the resource name of a version of the secret.
func (r reference) name(version string) string {
	parent := "projects/" + r.project
	if r.location != "" {
		parent += "/locations/" + r.location
	}
	return parent + "/secrets/" + r.secret + "/versions/" + version
}

// checkVersion reports what is wrong with a version that is asked for: a number, an alias or latest.
func checkVersion(version string) error {
	if version == domain.LatestVersion || numberPattern.MatchString(version) || aliasPattern.MatchString(version) {
		return nil
	}
	return fmt.Errorf("version %q must be %q, a version's number or an alias", version, domain.LatestVersion)
}

// versionIn is the number at the end of the name that Secret Manager answered with. The project in it is not
// compared, because Secret Manager answers with the project's number where it was asked by its id.
func (r reference) versionIn(name string) (string, error) {
	i := strings.LastIndexByte(name, '/')
	parent, err := parseReference(strings.TrimSuffix(name[:max(i, 0)], "/versions"))
	if i < 0 || err != nil || !strings.HasSuffix(name[:i], "/versions") || !numberPattern.MatchString(name[i+1:]) {
		return "", fmt.Errorf("the answer is named %q, which is not the name of a version", name)
	}
	if parent.secret != r.secret || parent.location != r.location {
		return "", fmt.Errorf("the answer is named %q, which is another secret than the one asked for", name)
	}
	return name[i+1:], nil
}

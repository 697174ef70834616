package emulator

import (
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Shapes of the parts of a resource name: projects as
// https://cloud.google.com/resource-manager/docs/creating-managing-projects has it, but of any length (or a
// number, or an id with its domain), the others as the comments of the API have it.
const (
	projectShape  = `(?:[a-z0-9.-]+:)?[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[0-9]{1,19}`
	locationShape = `[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?`
	secretShape   = `[A-Za-z0-9_-]{1,255}` //nolint:gosec // the shape of a name
	aliasShape    = `[A-Za-z][A-Za-z0-9_-]{0,62}`
	parentShape   = `projects/(?:` + projectShape + `)(?:/locations/` + locationShape + `)?`
)

var (
	secretIDPattern = regexp.MustCompile(`^` + secretShape + `$`)
	aliasPattern    = regexp.MustCompile(`^` + aliasShape + `$`)
	parentPattern   = regexp.MustCompile(`^` + parentShape + `$`)
	secretPattern   = regexp.MustCompile(`^` + parentShape + `/secrets/` + secretShape + `$`)
	versionPattern  = regexp.MustCompile(`^(` + parentShape + `/secrets/` + secretShape + `)/versions/([1-9][0-9]{0,17}|` + aliasShape + `)$`)
)

func checkParent(name string) error {
	if !parentPattern.MatchString(name) {
		return status.Errorf(codes.InvalidArgument,
			"The parent %q must be of the form projects/PROJECT or projects/PROJECT/locations/LOCATION.", name)
	}
	return nil
}

func checkSecretName(name string) error {
	if !secretPattern.MatchString(name) {
		return status.Errorf(codes.InvalidArgument,
			"The name %q must be of the form projects/PROJECT/secrets/SECRET or projects/PROJECT/locations/LOCATION/secrets/SECRET.", name)
	}
	return nil
}

// splitVersionName takes apart SECRET/versions/VERSION.
func splitVersionName(name string) (secret, version string, err error) {
	m := versionPattern.FindStringSubmatch(name)
	if m == nil {
		return "", "", status.Errorf(codes.InvalidArgument,
			"The name %q must be of the form projects/PROJECT/secrets/SECRET/versions/VERSION or projects/PROJECT/locations/LOCATION/secrets/SECRET/versions/VERSION.", name)
	}
	return m[1], m[2], nil
}

// secretName is the full name of a secret; a global one when location is "".
func secretName(project, location, id string) string {
	parent := "projects/" + project
	if location != "" {
		parent += "/locations/" + location
	}
	return parent + "/secrets/" + id
}

func versionName(secret string, number int) string {
	return secret + "/versions/" + strconv.Itoa(number)
}

// regional reports whether a parent or the name of a secret has a location.
func regional(name string) bool {
	parts := strings.Split(name, "/")
	return len(parts) > 2 && parts[2] == "locations"
}

// shortID is the last part of a secret's full name.
func shortID(secret string) string { return secret[strings.LastIndexByte(secret, '/')+1:] }

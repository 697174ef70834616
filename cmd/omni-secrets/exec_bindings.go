package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// binding says where the child finds a value: in the variable name, or in a file whose path is in it.
type binding struct {
	name, secretType string
	file             bool
}

// variableName is the form that every shell takes for the name of a variable (POSIX, XBD 8.1 and 3.216).
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// parseBindings reads what --env and --file got. Its errors repeat nothing that stands behind a =, since that may
// be a value by mistake.
func parseBindings(env, files []string) ([]binding, error) {
	var bindings []binding
	seen := map[string]bool{}
	for _, flag := range []struct {
		name  string
		specs []string
	}{{"env", env}, {"file", files}} {
		for _, spec := range flag.specs {
			name, secretType, ok := strings.Cut(spec, "=")
			switch {
			case !ok:
				return nil, usageErrorf("--%s is NAME=TYPE, and one has no =", flag.name).
					try("give such as --%s TRADING_API_KEY=trading_api_key", flag.name)
			case !variableName.MatchString(name):
				return nil, usageErrorf("--%s: what stands before the = is no name of a variable: letters, digits and _, not a digit first", flag.name)
			case !secretTypePattern.MatchString(secretType):
				return nil, usageErrorf("--%s %s=…: what follows the = is no secret type", flag.name, name).
					try("a secret type has lower-case letters, digits and underscores only, such as trading_api_key; 'omni-secrets status' lists them")
			case seen[name]:
				return nil, usageErrorf("the name %s is given twice", name)
			}
			seen[name] = true
			bindings = append(bindings, binding{name, secretType, flag.name == "file"})
		}
	}
	if len(bindings) == 0 {
		return nil, usageErrorf("there is nothing to fetch").try("name the secrets by --env NAME=TYPE or --file NAME=TYPE")
	}
	return bindings, nil
}

// secretTypes is what the bindings need, each once.
func (x execution) secretTypes() []string {
	var types []string
	for _, b := range x.bindings {
		types = append(types, b.secretType)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// accept is an error when a value cannot be where a binding wants it.
func (x execution) accept(secretType string, value domain.Value) error {
	for _, b := range x.bindings {
		if b.secretType == secretType && !b.file && bytes.IndexByte(value.Reveal(), 0) >= 0 {
			return failuref("the value of %s has a NUL byte, which no environment variable can hold", secretType).
				try("give it by --file %s=%s", b.name, secretType)
		}
	}
	return nil
}

// ownCredentials are the variables with which this program proves who it is. A child has no use for them, and what
// it starts or reports should not have them.
var ownCredentials = []string{"OMNI_TOKEN", privateKeyEnv, previousKeysEnv, auditKeyEnv}

// environment is the child's: the inherited one with the values, or the paths of their files, in it.
func (x execution) environment(inherited []string, values map[string]domain.Value, dir secretDir) []string {
	replaced := map[string]bool{}
	for _, name := range ownCredentials {
		replaced[name] = !slices.Contains(x.passEnv, name)
	}
	for _, b := range x.bindings {
		replaced[b.name] = true
	}
	var env []string
	for _, variable := range inherited {
		if name, _, _ := strings.Cut(variable, "="); !replaced[name] {
			env = append(env, variable)
		}
	}
	for _, b := range x.bindings {
		if b.file {
			env = append(env, b.name+"="+dir.file(b.name))
		} else {
			env = append(env, b.name+"="+string(values[b.secretType].Reveal()))
		}
	}
	return env
}

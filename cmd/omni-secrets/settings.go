package main

import "fmt"

// setting is a value that a flag or the environment gave, together with where it stood, so that a complaint
// names the right place and has the right exit code.
type setting struct {
	value    string
	from     string
	fromFlag bool
}

// setting is the flag's value, or else the variable's.
func (s *streams) setting(flag, value, variable string) setting {
	if value != "" {
		return setting{value: value, from: "--" + flag, fromFlag: true}
	}
	return setting{value: s.env(variable), from: variable}
}

// wrong is the error for a setting that cannot be used. It must not repeat a secret one.
func (v setting) wrong(format string, args ...any) *exitError {
	err := fmt.Errorf("%s: %w", v.from, fmt.Errorf(format, args...))
	if v.fromFlag {
		return &exitError{code: exitUsage, err: err}
	}
	return &exitError{code: exitConfig, err: err}
}

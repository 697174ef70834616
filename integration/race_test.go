//go:build race

package integration_test

const raceDetector = true

func init() { buildFlags = append(buildFlags, "-race") }

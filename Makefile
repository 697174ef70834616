# The commands of daily work. CI needs no make: it runs .ci/run.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo '(devel)')
FUZZTIME ?= 20s
BENCH ?= .
COUNT ?= 6
ARGS ?=

golangci-lint := go tool -modfile=tools/go.mod golangci-lint
benchstat := go tool -modfile=tools/go.mod benchstat

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs into bin/, with VERSION in them
	go build -trimpath -ldflags "-X 'main.version=$(VERSION)'" -o bin/ ./cmd/...

.PHONY: dev
dev: ## Run a server with sample secrets on this machine; ARGS are its flags
	go run ./cmd/omni-secrets dev $(ARGS)

.PHONY: test
test: ## Run all tests
	go test ./...

.PHONY: race
race: ## Run all tests with the race detector, in another order each time
	go test -race -shuffle=on -count=1 ./...

.PHONY: cover
cover: ## Run all tests and tell what they reach (coverage.out)
	go test -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -func=coverage.out | tail -n 1

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

.PHONY: rules
rules: ## Check and test the alerts, with promtool and amtool
	.ci/rules

.PHONY: bench
bench: ## Run the benchmarks that match BENCH, COUNT times, and summarize them (bin/bench.txt)
	mkdir -p bin
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./... | tee bin/bench.txt
	$(benchstat) bin/bench.txt

.PHONY: load
load: ## Measure a cached read beside a bare handler, some five minutes; ARGS are its flags (-help)
	go run ./integration/load $(ARGS)

.PHONY: drill
drill: ## Break what the programs depend on, in the long form: 12 to 20 minutes
	OMNI_DRILL=long go test -count=1 -timeout 60m -v ./integration/faults

.PHONY: proto
proto: ## Check the wire contract (proto/) and generate gen/ from it
	.ci/proto

.PHONY: licences
licences: ## List the licences of what is released (docs/licences.md)
	.ci/licences

.PHONY: vuln
vuln: ## Look for known vulnerabilities, where their database can be reached
	.ci/vuln

.PHONY: release-snapshot
release-snapshot: ## Make the files of a release in dist/, and publish nothing
	.ci/release --snapshot

.PHONY: release
release: ## Make a release of the tag that is checked out, as a draft
	.ci/release

.PHONY: fmt
fmt: ## Format the Go files
	$(golangci-lint) fmt

.PHONY: vet
vet: ## Run go vet
	go vet ./...

.PHONY: lint
lint: ## Run the static checks, import rules included
	$(golangci-lint) run

.PHONY: check
check: fmt vet lint test ## Format, and run all but the slow checks: before a commit

.PHONY: ci
ci: ## Run what CI runs
	bash .ci/run

.PHONY: clean
clean: ## Remove what these commands made
	rm -rf bin dist .release coverage.out *.test *.pprof

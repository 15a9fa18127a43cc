# kLive: every task in one place. `make` alone prints what there is.
#
# The promise: on a Debian 12 with nothing but make and Go, `make run` runs the server and `make test` runs the tests.
# Each target installs what it needs, prints what it installs, and is quick when nothing is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Go is found in the place where its tarball is unpacked even when PATH was not changed.
export PATH := $(PATH):/usr/local/go/bin

GOLANGCI_VERSION := v2.15.0
GOLANGCI := bin/golangci-lint-$(GOLANGCI_VERSION)
PLAYER := internal/egress/hls/web/dist/hls.min.js
NPM_TOOLS := web/node_modules/.tools
PROTOS := third_party/proto/.filled

# What a caller may set: make test PKG=./internal/rtmp/... ; make fuzz FUZZTIME=5m ; make run ARGS="--config my.yaml"
PKG ?= ./...
ARGS ?=
FUZZTIME ?= 20s
TEST_TIMEOUT ?= 10m

## For everybody

.PHONY: help
help: ## Print this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^## / { printf "\n%s\n", substr($$0, 4) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: build ## Run the server with no configuration; ARGS="--config my.yaml" to give it one
	@exec bin/klive serve $(ARGS)

.PHONY: demo
demo: setup-demo build ## Run the server and publish a generated live picture to it over RTMP
	@exec scripts/demo

.PHONY: demo-kaltura
demo-kaltura: setup-demo build ## Show the bridge to a Kaltura backend, with a simulated one
	@exec scripts/demo-kaltura

.PHONY: test
test: setup-test web ## Run every test of the Go packages, with the race detector
	go test -race -timeout $(TEST_TIMEOUT) $(PKG)
	go test -run GoRTMP ./internal/rtmp

## For developers

.PHONY: build
build: setup-run web ## Build bin/klive
	@scripts/build

.PHONY: e2e
e2e: setup-e2e build npm ## Test with real clients: ffmpeg, OBS, Chromium; SHORT=1 for the bounded set that CI runs
	E2E_SERVER=$(CURDIR)/bin/klive E2E_NODE_MODULES=$(CURDIR)/web/node_modules \
		go test -tags e2e -count=1 -timeout 30m $(if $(SHORT),-short) -v ./test/e2e/...

.PHONY: bench
bench: setup-bench build ## Measure the server against peers and limits, and write the figures to bench/results
	@scripts/bench

.PHONY: fuzz
fuzz: setup-test web ## Run every fuzz target for FUZZTIME (default 20s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

.PHONY: lint
lint: setup-ci web $(GOLANGCI) npm $(PROTOS) ## Check the style of the Go code and of the API contract
	@files=$$(git ls-files '*.go'); unformatted=$$(gofmt -l $$files); \
	if [ -n "$$unformatted" ]; then printf 'gofmt would change:\n%s\n' "$$unformatted"; exit 1; fi
	GOFLAGS="$$(go env GOFLAGS) -buildvcs=false" $(GOLANGCI) run
	@scripts/buf lint
	@scripts/breaking

.PHONY: generate
generate: setup-go npm $(PROTOS) ## Make gen/ from api/proto
	@scripts/generate

.PHONY: drift
drift: setup-ci generate ## Fail when gen/, go.mod or go.sum differ from what their sources give
	@scripts/drift

.PHONY: web
web: $(PLAYER) ## Fetch the player's script, which is embedded in the binary

.PHONY: npm
npm: $(NPM_TOOLS)

.PHONY: clean
clean: ## Remove everything that was built or fetched, except the linter
	rm -rf bin/klive web/node_modules third_party $(PLAYER) $(PLAYER).LICENSE coverage*.out

## Setting up (each is also done by the targets that need it)

.PHONY: setup-go
setup-go: ## Check that Go is here and new enough
	@scripts/setup go

.PHONY: setup-ci
setup-ci: setup-go ## Install what the checks of style and drift need
	@scripts/setup ci

.PHONY: setup-run
setup-run: setup-go ## Install what the server needs
	@scripts/setup run

.PHONY: setup-demo
setup-demo: setup-run ## Install what the demonstration needs
	@scripts/setup demo

.PHONY: setup-test
setup-test: setup-go ## Install what the tests need
	@scripts/setup test

.PHONY: setup-e2e
setup-e2e: setup-test ## Install the real clients: OBS, Chromium
	@scripts/setup e2e

.PHONY: setup-bench
setup-bench: setup-test ## Install the servers that the benchmarks compare with
	@scripts/setup bench

# The player's script comes from npm, pinned by the lockfile. Only the one package that goes into the binary is fetched.
$(PLAYER): web/package-lock.json | setup-run
	@scripts/npm player
	@mkdir -p $(@D)
	@cp web/node_modules/hls.js/dist/hls.min.js $@
	@cp web/node_modules/hls.js/LICENSE $@.LICENSE
	@touch $@

$(NPM_TOOLS): web/package-lock.json | setup-run
	@scripts/npm tools

$(PROTOS): scripts/protos go.mod $(NPM_TOOLS)
	@scripts/protos

$(GOLANGCI):
	@echo "lint: building golangci-lint $(GOLANGCI_VERSION) into bin/ (once, about 3 minutes)"
	@mkdir -p bin/.lint && GOBIN=$(CURDIR)/bin/.lint nice go install \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv bin/.lint/golangci-lint $@ && rmdir bin/.lint

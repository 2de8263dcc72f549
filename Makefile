# certsync needs Go, git and make to build; everything else that a target needs
# it gets for itself, or says what is missing.

export GOTOOLCHAIN := local

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
BENCH    ?= full
TESTFLAGS ?=

LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD   := CGO_ENABLED=0 go build -trimpath -buildvcs=false

.DEFAULT_GOAL := build

.PHONY: build
build: ## build bin/certsync, one static binary
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/certsync ./cmd/certsync

.PHONY: quickstart
quickstart: build ## make a CA, a server and a client certificate, and prove that they work
	@.ci/need openssl curl
	@rm -rf bin/quickstart
	@examples/quickstart/run.sh bin/certsync bin/quickstart

.PHONY: test
test: test-tools control-plane-build ## run all tests
	@.ci/test $(TESTFLAGS) ./...

# Without openssl and curl too little would be tested. What else is missing has the
# tests that use it skipped, but not in CI.
.PHONY: test-tools
test-tools:
	@.ci/need openssl curl
	@.ci/need $$(cat .ci/tools) || { [ -z "$$CI" ] && echo "without it the tests that use it are skipped" >&2; }

.PHONY: test-short
test-short: ## run the tests that take no time
	@.ci/test -short $(TESTFLAGS) ./...

.PHONY: test-race
test-race: ## run the short tests with the race detector, which needs a C compiler
	@.ci/need openssl curl cc
	@CI= CGO_ENABLED=1 .ci/test -race -short $(TESTFLAGS) ./...

# A build of a quarter of an hour, once: too long for go test, which ends a package
# after ten minutes. Without it, and not in CI, tests that need it are skipped.
.PHONY: control-plane-build
control-plane-build: ## build etcd, kube-apiserver and kube-controller-manager, once
	@$(BUILD) -o bin/control-plane ./backends/kubernetes/kubetest/cmd/control-plane
	@bin/control-plane -build || [ -z "$$CI" ]

.PHONY: control-plane
control-plane: control-plane-build ## run a Kubernetes control plane until Ctrl-C, on certificates of certsync's
	@exec bin/control-plane

.PHONY: lint
lint: ## run the linters, which also guard the direction of imports
	@.ci/lint

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@.ci/fuzz $(FUZZTIME)

.PHONY: bench
bench: build ## measure ratios against other ways to do the same; BENCH=quick or cluster for less
	@.ci/need openssl
	@$(BUILD) -o bin/bench/ ./cmd/certsync/internal/bench/...
	@bin/bench/bench -certsync bin/certsync -floor bin/bench/floor -dir bin/bench $(if $(filter quick cluster,$(BENCH)),-$(BENCH))

.PHONY: cross
cross: ## build for every platform that is supported
	@.ci/cross

.PHONY: vuln
vuln: ## look for known vulnerabilities; needs access to the Go vulnerability database
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' Makefile

# People and CI call the same recipes. `make help` lists them.

CARGO ?= cargo
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ecr-pull-secrets
DENY_VERSION := 0.20.2
DENY := $(TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
# Most tests wait for clocks rather than for the processor.
TEST_THREADS ?= 4

.PHONY: help build image image-reproducible test demo lint fmt generate drift tools

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## The program, for release
	$(CARGO) build --release

image: ## The image as an OCI archive, without Docker; IMAGE=HOST/PATH names it
	program=$$(CARGO=$(CARGO) deploy/image/build) && $(CARGO) run --quiet --locked --package ecr-pull-secrets-image -- \
		archive --program "$$program" --folder "$${CARGO_TARGET_DIR:-target}/image"

image-reproducible: ## Whether the last commit gives one digest in two folders; takes two whole builds
	deploy/image/reproducible

tools: ## What the tests run against: control plane, registry, moto
	tests/tools/build kubernetes >/dev/null
	tests/tools/build registry >/dev/null
	tests/tools/build moto >/dev/null

test: tools drift image ## Every test, on a real API server
	$(CARGO) test --workspace --locked -- --test-threads=$(TEST_THREADS)

demo: ## The whole job on a real API server, in two minutes; KEEP=1 stays
	tests/tools/build kubernetes >/dev/null
	$(CARGO) build --quiet --locked --package ecr-pull-secrets --package ecr-pull-secrets-testing
	target/debug/demo --controller target/debug/ecr-pull-secrets $(if $(KEEP),--keep)

lint: $(DENY) ## Format, clippy, docs, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --workspace --no-deps --locked --document-private-items
	$(DENY) --locked --workspace check bans licenses sources

fmt: ## Format
	$(CARGO) fmt --all

generate: ## Generated files: the schema of the configuration
	$(CARGO) run --quiet --locked -- config-schema > docs/config.schema.json

drift: ## Whether generated files are up to date
	$(CARGO) run --quiet --locked -- config-schema | diff docs/config.schema.json - || \
		{ echo 'docs/config.schema.json is out of date: run make generate' >&2; exit 1; }

$(DENY):
	$(CARGO) install --locked --quiet --root $(TOOLS)/cargo-deny-$(DENY_VERSION) cargo-deny@$(DENY_VERSION)

# People and CI call the same recipes. `make help` lists them.

CARGO ?= cargo
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ecr-pull-secrets
DENY_VERSION := 0.20.2
DENY := $(TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
# Most tests wait for clocks rather than for the processor.
TEST_THREADS ?= 4
# Of `make chaos`.
SECONDS ?= 600
# Of `make bench`: the number of namespaces, and how often the rates are measured.
N ?= 2000
ROUNDS ?= 5
PERFORMANCE := docs/performance

# The planted bugs of the simulation are compiled in here and nowhere else.
SIMULATION := $(CARGO) --config tests/sim/fast.toml test --locked --features simulation

# The Kubernetes of `make versions`: names of TEST_KUBERNETES.
VERSIONS := oldest newest kine
# The tests that it leaves out: they depend on AWS, files, the process, the audit log or many attackers, and not on the version.
LEFT_OUT := alerts attacks aws_faults bad_input credential_sources incidents kubeconfigs metrics process \
	rotated_credentials six_registries tenants
# The main scenarios, which `make test` runs on the oldest one too.
MAIN := \
	creation::an_annotated_namespace_gets_a_secret_that_the_registry_accepts \
	renewals::over_several_lifetimes_no_reader_sees_an_expired_token \
	repairs::what_is_edited_while_running_is_repaired \
	restarts::a_restart_while_fresh_neither_fetches_tokens_nor_writes \
	restarts::the_secret_of_an_annotation_removed_while_stopped_is_deleted \
	failover::soon_after_a_crash_another_one_writes \
	cleanup::it_prints_what_it_would_do_and_does_it_with_yes \
	service_accounts::named_or_all_service_accounts_get_the_secret_now_and_as_they_appear \
	migration::secrets_of_scripts_with_kubectl_apply_are_adopted_without_a_gap \
	single_namespace::an_admin_of_the_namespaces_installs_it_and_it_makes_no_cluster_scoped_request_but_for_the_version \
	admission::a_stolen_credential_reaches_no_other_secret_and_no_other_namespace \
	admission::under_the_charts_rights_and_policies_the_whole_job_is_done

CHART := charts/ecr-pull-secrets
# What `make prose` checks: documents, and in Rust files both comments and messages.
PROSE := '*.md' '*.gotmpl'
RUST_PROSE := 'src/*.rs'
FILES := git ls-files -z --cached --others --exclude-standard
GENERATED := docs/config.schema.json docs/flags.md docs/fields.md $(CHART)/values.schema.json $(CHART)/README.md deploy/install.yaml \
	deploy/admission-policy.yaml deploy/alerts/rules.yaml $(CHART)/files/dashboard.json \
	deploy/kustomize/install.yaml

.PHONY: help build image image-reproducible startup test versions $(VERSIONS:%=versions-%) soak reliability chaos e2e conformance fuzz fleet bench bench-again bench-report demo recording lint advisories prose workflows docs fmt generate drift generated tools

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## The program, for release
	$(CARGO) build --release

image: ## The image as an OCI archive, without Docker; IMAGE=HOST/PATH names it
	program=$$(CARGO=$(CARGO) deploy/image/build) && CARGO=$(CARGO) deploy/image/archive "$$program"

image-reproducible: ## Whether the last commit gives one digest in two folders; takes two whole builds
	deploy/image/reproducible

startup: ## Whether the commands that fetch a token start in time, with the program for release; part of `make test`
	program=$$(CARGO=$(CARGO) deploy/image/build) && \
		PROGRAM=$$program $(CARGO) test --locked --test credentials startup:: -- --ignored --nocapture

tools: ## What the tests run against: control plane, node, registry, Helm, moto, Prometheus
	tests/tools/build kubernetes >/dev/null
	tests/tools/build kubernetes-oldest >/dev/null
	tests/tools/build node >/dev/null || [ $$? = 3 ] # Without it the tests on a node are skipped.
	tests/tools/build registry >/dev/null
	tests/tools/build helm >/dev/null
	tests/tools/build kubectl >/dev/null
	tests/tools/build helm-docs >/dev/null
	tests/tools/build grafana-foundation-sdk >/dev/null
	tests/tools/build kubeconform >/dev/null
	tests/tools/build crane >/dev/null
	tests/tools/build moto >/dev/null
	tests/tools/build hcl2 >/dev/null
	tests/tools/build promtool >/dev/null
	tests/tools/build prometheus >/dev/null
	tests/tools/build prometheus-operator >/dev/null
	tests/tools/build kustomize >/dev/null
	tests/tools/build skopeo >/dev/null

test: tools drift image ## Every test, on a real API server
	@$(MAKE) --no-print-directory startup
	$(CARGO) test --workspace --locked -- --test-threads=$(TEST_THREADS)
	$(SIMULATION) --test sim --test fuzz
	@found=$$($(CARGO) test --quiet --locked --test apiserver -- --list --exact $(MAIN) | grep -c ': test$$'); \
		[ "$$found" = $(words $(MAIN)) ] || { echo "MAIN in the Makefile: tests/apiserver has $$found of $(words $(MAIN)) tests" >&2; exit 1; }
	TEST_KUBERNETES=oldest $(CARGO) test --locked --test apiserver -- --test-threads=$(TEST_THREADS) --exact $(MAIN)

versions: $(VERSIONS:%=versions-%) ## The tests on an API server with each supported Kubernetes: the oldest, the newest, and kine as in k3s; versions-NAME for one

$(VERSIONS:%=versions-%): versions-%:
	TEST_KUBERNETES=$* $(CARGO) test --locked --test apiserver --test commands -- --test-threads=$(TEST_THREADS) \
		$(LEFT_OUT:%=--skip %::)

soak: ## A million schedules of small worlds and 500 months of larger ones, or what is left of them; SCHEDULES=N SEEDS=N
	git diff --quiet HEAD -- src tests/sim # The figures are those of a commit.
	CODE="src $$(git rev-parse --short HEAD:src), tests/sim $$(git rev-parse --short HEAD:tests/sim)" \
		SCHEDULES=$(SCHEDULES) SEEDS=$(SEEDS) $(SIMULATION) --test sim -- runs::long --ignored --nocapture

reliability: ## The tables of known defects and planted bugs in docs/reliability.md, from runs
	$(SIMULATION) --test sim -- report::write_the_tables --ignored

fleet: ## The table of many clusters in docs/performance.md, from a simulation
	$(SIMULATION) --test sim -- fleet::table::write_the_table --ignored

bench: ## Measures the program on a real API server, for docs/performance.md; N=2000 namespaces, ROUNDS=5. For a quiet machine
	tests/tools/build kubernetes >/dev/null
	mkdir -p $(PERFORMANCE)
	program=$$(CARGO=$(CARGO) deploy/image/build) && $(CARGO) run --quiet --locked --profile measure \
		--package ecr-pull-secrets-bench -- measure --program "$$program" --namespaces $(N) --rounds $(ROUNDS) \
		--commit "$$(git describe --always --dirty)" --command "make bench N=$(N)" \
		--figures $(PERFORMANCE)/namespaces-$(N).json
	$(MAKE) --no-print-directory bench-report

bench-again: ## Whether a second run has the ratios of the stored figures, for the same N and machine; stores nothing
	tests/tools/build kubernetes >/dev/null
	program=$$(CARGO=$(CARGO) deploy/image/build) && $(CARGO) run --quiet --locked --profile measure \
		--package ecr-pull-secrets-bench -- speed --program "$$program" --namespaces $(N) --rounds $(ROUNDS) \
		--commit "$$(git describe --always --dirty)" --command "make bench-again N=$(N)" \
		--figures $(CURDIR)/target/speed-$(N).json
	$(CARGO) run --quiet --locked --profile measure --package ecr-pull-secrets-bench -- compare \
		$(PERFORMANCE)/namespaces-$(N).json target/speed-$(N).json

bench-report: ## docs/performance.md and its plots, from the figures of earlier runs
	$(CARGO) run --quiet --locked --package ecr-pull-secrets-bench -- report --figures $(PERFORMANCE) \
		--document docs/performance.md

chaos: ## Random faults on two replicas and a real API server, then every guard; SECONDS=600, SEED=N repeats a run
	tests/tools/build kubernetes >/dev/null
	CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) CHAOS_REPORT=$(CURDIR)/target/chaos.json \
		$(CARGO) test --locked --test chaos -- --exact random::two_replicas_survive_random_faults --nocapture
	$(CARGO) test --locked --test chaos -- --ignored --test-threads=$(TEST_THREADS)

e2e: tools image ## Helm to a running pod, on a node of its own; part of `make test`, and needs root
	$(CARGO) test --locked --test e2e -- --nocapture --test-threads=$(TEST_THREADS)

conformance: ## Whether the simulated API server does what the oldest, the newest and one on kine do; builds them
	tests/tools/build kubernetes-oldest >/dev/null
	tests/tools/build kubernetes-newest >/dev/null
	tests/tools/build kine >/dev/null
	$(CARGO) test --locked --package ecr-pull-secrets-testing --lib -- --ignored --nocapture _starts
	$(SIMULATION) --test sim -- --ignored --nocapture --test-threads=1 the_store_does

fuzz: ## Looks for inputs that break a parser; SECONDS=600 for each target, TARGET=NAME for one
	tests/tools/fuzz run $(or $(SECONDS),600) $(TARGET)

demo: ## The whole job on a real API server, in two minutes; KEEP=1 stays
	tests/tools/build kubernetes >/dev/null
	$(CARGO) build --quiet --locked --package ecr-pull-secrets --package ecr-pull-secrets-testing
	target/debug/demo --controller target/debug/ecr-pull-secrets $(if $(KEEP),--keep)

recording: ## docs/demo.svg, from a run of the demo
	mkdir -p target
	$(MAKE) --silent demo > target/demo.txt
	tests/tools/recording < target/demo.txt > target/demo.svg
	mv target/demo.svg docs/demo.svg

lint: $(DENY) prose workflows ## Format, clippy, docs, dependencies, prose, workflows
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	$(CARGO) clippy --all-targets --features simulation --locked -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --workspace --no-deps --locked --document-private-items
	$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null # fuzz/Cargo.lock is up to date.
	$(DENY) --locked --workspace check bans licenses sources
	tests/tools/advisories $(DENY)

advisories: $(DENY) ## Known vulnerabilities of dependencies; fails without a database. For a scheduled job
	tests/tools/advisories $(DENY) required

prose: ## Vale, with the rules in .vale, the links between documents, and the tests that the threat model names
	@vale=$$(tests/tools/build vale)/vale && $(FILES) $(PROSE) $(RUST_PROSE) | xargs -0 $$vale --no-global --output=line
ifdef RUST_PROSE
	@$(FILES) $(RUST_PROSE) | xargs -0 tests/tools/strings $$(tests/tools/build vale)/vale
endif
	@tests/tools/links
	@tests/tools/threat-model

workflows: ## actionlint and zizmor on the workflows of GitHub
	$$(tests/tools/build actionlint)/actionlint .github/workflows/*.yml
	$$(tests/tools/build zizmor)/bin/zizmor --offline --quiet .github/workflows

docs: ## The manual, in target/manual; its links, and the code blocks of all documents
	"$$(tests/tools/build mdbook)/mdbook" build
	tests/tools/manual-links target/manual
	$(CARGO) test --quiet --locked --test manual

fmt: ## Format
	$(CARGO) fmt --all

generate: ## Generated files: schemas, the chart's README, the dashboard, and what deploy/ has of the chart
	@$(MAKE) --no-print-directory generated OUT=.

drift: ## Whether generated files are up to date
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && $(MAKE) --no-print-directory generated OUT=$$out && \
		for file in $(GENERATED); do \
			diff $$file $$out/$$file || { echo "$$file is out of date: run make generate" >&2; exit 1; }; \
		done

# Each is written beside and put in place whole.
generated:
	mkdir -p $(addprefix $(OUT)/,$(dir $(GENERATED)))
	$(CARGO) run --quiet --locked --example config-schema > $(OUT)/.config
	mv $(OUT)/.config $(OUT)/docs/config.schema.json
	$(CARGO) run --quiet --locked --example reference flags > $(OUT)/.flags
	mv $(OUT)/.flags $(OUT)/docs/flags.md
	$(CARGO) run --quiet --locked --example reference fields > $(OUT)/.fields
	mv $(OUT)/.fields $(OUT)/docs/fields.md
	tests/tools/values-schema $(CHART)/values.schema.json $(OUT)/docs/config.schema.json $(CHART)/values.yaml > $(OUT)/.values
	mv $(OUT)/.values $(OUT)/$(CHART)/values.schema.json
	"$$(tests/tools/build helm-docs)/helm-docs" --log-level warning --chart-search-root $(CHART) --dry-run > $(OUT)/.readme
	mv $(OUT)/.readme $(OUT)/$(CHART)/README.md
	{ cat deploy/install.header.yaml && "$$(tests/tools/build helm)/helm" template ecr-pull-secrets $(CHART) \
		--namespace ecr-pull-secrets --skip-tests; } > $(OUT)/.install
	mv $(OUT)/.install $(OUT)/deploy/install.yaml
	cp $(OUT)/deploy/install.yaml $(OUT)/deploy/kustomize/install.yaml
	{ cat deploy/admission-policy.header.yaml && "$$(tests/tools/build helm)/helm" template ecr-pull-secrets $(CHART) \
		--namespace ecr-pull-secrets --show-only templates/admission-policy.yaml; } > $(OUT)/.policy
	mv $(OUT)/.policy $(OUT)/deploy/admission-policy.yaml
	cat deploy/alerts/rules.header.yaml $(CHART)/files/rules.yaml > $(OUT)/.rules
	mv $(OUT)/.rules $(OUT)/deploy/alerts/rules.yaml
	"$$(tests/tools/build grafana-foundation-sdk)/bin/python" tests/tools/dashboard > $(OUT)/.dashboard
	mv $(OUT)/.dashboard $(OUT)/$(CHART)/files/dashboard.json

$(DENY):
	$(CARGO) install --locked --quiet --root $(TOOLS)/cargo-deny-$(DENY_VERSION) cargo-deny@$(DENY_VERSION)

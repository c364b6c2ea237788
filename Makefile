# Two commands matter: `make quickstart` and `make test`. The rest is what they are made of.
#
# Tools that are lacking are installed with apt-get where that is possible (Debian, as root) and
# named otherwise. Nothing is installed outside the system's packages and `target/`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help quickstart test check unit doc-test gateway-test cost decision-cost call-cost renew-cost sdk bench bench-peers fuzz build-tools test-tools

CARGO ?= cargo
# The oldest compiler that will do.
RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# The SDKs of `gateway/app/tests/sdk`, outside the source tree.
SDK := target/sdk
SDK_SOURCES := gateway/app/tests/sdk

# $(call need,COMMAND PACKAGE ...): installs the Debian packages of the commands that are lacking.
define need
	@set -- $(1); lacking=""; \
	while [ $$# -gt 0 ]; do \
		command -v "$$1" >/dev/null 2>&1 || lacking="$$lacking $$2"; shift 2; \
	done; \
	$(install_lacking)
endef
define install_lacking
	if [ -n "$$lacking" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing:$$lacking" >&2; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$lacking >/dev/null; \
		else \
			echo "Please install first: $$lacking   (on Debian: sudo apt-get install$$lacking)" >&2; exit 1; \
		fi; \
	fi
endef

help: ## Lists what there is.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

quickstart: build-tools ## Builds Tollgate and runs a throw-away gateway with two tenants and a mock provider.
	$(CARGO) build --locked --package tollgate
	./target/debug/tollgate quickstart $(ARGS)

test: test-tools sdk check unit doc-test cost gateway-test ## Runs every check and every test.

check: build-tools ## Checks the form of the code: formatting and lints.
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# Tests wait (for deadlines, other processes, disks) more than they compute.
TEST_THREADS ?= $(shell echo $$((3 * $$(nproc))))

unit: build-tools ## Runs the tests of the crates, without those of the whole gateway.
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --workspace --locked --lib --bins

doc-test: build-tools ## Runs the examples in the documentation.
	$(CARGO) test --workspace --locked --doc

# What docker-compose.yml starts is started in namespaces, as root.
NEEDS_ROOT := what_the_compose_page_says_works
LEFT_OUT := $(shell [ "$$(id -u)" = 0 ] || echo "--skip $(NEEDS_ROOT)")

gateway-test: build-tools sdk ## Runs the tests of the whole gateway: the real binary on real sockets.
	$(if $(LEFT_OUT),@echo "left out: $(NEEDS_ROOT)… needs root" >&2)
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --workspace --locked --test '*' -- $(LEFT_OUT)

cost: decision-cost call-cost ## Counts what calls cost, and the decisions on their path, and compares with what was agreed on.

# Optimised, but core alone: in a minute.
COUNT_DECISIONS := $(CARGO) run --quiet --profile cost --locked --package tollgate-cost
# The gateway that its tests start, as they build it: not optimised, and there already.
DEBUG := $(or $(CARGO_TARGET_DIR),target)/debug
COUNT_CALLS := $(CARGO) test --quiet --workspace --locked --test '*' --no-run && \
	$(DEBUG)/loadtest cost --gateway $(DEBUG)/tollgate

decision-cost: build-tools ## Counts instructions and allocations of the decisions on a call's path.
	$(call need,valgrind valgrind)
	$(COUNT_DECISIONS)

call-cost: build-tools ## Counts instructions, allocations and system calls of a whole call and a whole stream.
	$(call need,valgrind valgrind strace strace)
	$(COUNT_CALLS)

renew-cost: build-tools ## Agrees on what both cost now.
	$(call need,valgrind valgrind strace strace)
	$(COUNT_DECISIONS) -- renew
	$(COUNT_CALLS) --renew

sdk: $(SDK)/python.stamp $(SDK)/frameworks.stamp $(SDK)/crewai.stamp $(SDK)/node.stamp ## Installs the pinned SDKs and agent frameworks that the tests use, under target/.

$(SDK)/python.stamp: $(SDK_SOURCES)/requirements.txt
$(SDK)/frameworks.stamp: $(SDK_SOURCES)/frameworks/requirements.txt
# CrewAI wants an older openai than the others: an environment of its own.
$(SDK)/crewai.stamp: $(SDK_SOURCES)/frameworks/crewai.txt

$(SDK)/python.stamp $(SDK)/frameworks.stamp $(SDK)/crewai.stamp: $(SDK)/%.stamp: | test-tools
	rm -rf $(SDK)/$* && mkdir -p $(SDK)
	python3 -m venv $(SDK)/$*
	$(SDK)/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

$(SDK)/node.stamp: $(SDK_SOURCES)/package.json $(SDK_SOURCES)/package-lock.json | test-tools
	rm -rf $(SDK)/node && mkdir -p $(SDK)/node
	cp $^ $(SDK)/node/
	cd $(SDK)/node && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

# What else the bench measures and registries have, pinned, outside the source tree.
PEERS := target/bench
PEER_SOURCES := loadtest/peers

bench-peers: $(PEERS)/litellm.stamp $(PEERS)/tensorzero-python.stamp $(PEERS)/portkey.stamp ## Installs the pinned peers that the bench measures beside Tollgate, under target/.

$(PEERS)/litellm.stamp $(PEERS)/tensorzero-python.stamp: $(PEERS)/%.stamp: $(PEER_SOURCES)/%/requirements.txt
	$(call need,python3 python3)
	@lacking=""; python3 -c 'import ensurepip' 2>/dev/null || lacking="python3-venv"; $(install_lacking)
	rm -rf $(PEERS)/$* && mkdir -p $(PEERS)
	python3 -m venv $(PEERS)/$*
	$(PEERS)/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

$(PEERS)/portkey.stamp: $(PEER_SOURCES)/portkey/package.json $(PEER_SOURCES)/portkey/package-lock.json
	$(call need,node nodejs npm npm)
	rm -rf $(PEERS)/portkey && mkdir -p $(PEERS)/portkey
	cp $^ $(PEERS)/portkey/
	cd $(PEERS)/portkey && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

bench: build-tools ## Shows that caps, records, sums, revocations and upgrades hold, then measures what a call costs beside nginx, haproxy and the peers that are there.
	$(call need,nginx nginx-light haproxy haproxy redis-server redis-server redis-sentinel redis-sentinel iptables iptables)
	$(CARGO) build --release --locked --package tollgate --package tollgate-loadtest
	./target/release/loadtest overshoot --json
	./target/release/loadtest crash --json
	./target/release/loadtest records --json
	./target/release/loadtest drift --json
	./target/release/loadtest revoke --json
	./target/release/loadtest upgrade --json
	@if [ "$$(id -u)" = 0 ]; then echo ./target/release/loadtest fleet --json; ./target/release/loadtest fleet --json; \
	else echo "left out: loadtest fleet needs root, for a network namespace" >&2; fi
	./target/release/loadtest overload --json
	./target/release/loadtest tenants --json
	./target/release/loadtest overhead --targets all --full $(ARGS)

# libFuzzer, run by the stable compiler: what cargo-fuzz asks of a nightly one is the sanitizer, and
# there is no unsafe code here for it to look at. With a --target, these flags reach no build script.
FUZZ_TARGETS := handles token authority scrub usage json_field record
FUZZ_SECONDS ?= 20
FUZZ_HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1

fuzz: build-tools ## Fuzzes each target for FUZZ_SECONDS (20): everything that reads what strangers write.
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --package tollgate-fuzz --features libfuzzer --bins \
		--profile fuzz --target $(FUZZ_HOST) --target-dir target/fuzz
	@for target in $(FUZZ_TARGETS); do \
		at=target/fuzz/$$target; mkdir -p $$at; \
		if ! target/fuzz/$(FUZZ_HOST)/fuzz/$$target $$at gateway/fuzz/corpus/$$target -max_len=16384 -timeout=10 \
			-max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$$at- -print_final_stats=1 >$$at.log 2>&1; then \
			tail -n 40 $$at.log >&2; echo "$$target: the input is beside $$at.log" >&2; exit 1; \
		fi; \
		runs=$$(sed -n 's/^stat::number_of_executed_units: *//p' $$at.log); \
		echo "$$target: $$runs executions in $(FUZZ_SECONDS) s, no finding"; \
	done

build-tools:
	$(call need,cc build-essential cmake cmake)
	@have=$$({ $(CARGO) --version 2>/dev/null || true; } | cut -d ' ' -f 2); \
	printf '%s\n' "$(RUST)" "$${have:-0}" | sort --check=quiet --version-sort || { \
		echo "Please install Rust $(RUST) or newer first: https://rustup.rs   (found: $${have:-none})" >&2; exit 1; \
	}

test-tools:
	$(call need,curl curl python3 python3 node nodejs npm npm redis-server redis-server chromium chromium)
	$(call need,systemd-analyze systemd strace strace ip iproute2 prometheus prometheus promtool prometheus valgrind valgrind)
	@lacking=""; python3 -c 'import ensurepip' 2>/dev/null || lacking="python3-venv"; $(install_lacking)

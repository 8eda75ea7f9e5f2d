# The few commands that matter; `make` alone lists them.

CARGO ?= cargo
BUILD_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
DEBUG_BINARY := $(BUILD_DIR)/debug/slotway

.DEFAULT_GOAL := help
.PHONY: help demo test test-tools lint sim mutations fuzz chaos crowd bench bench-instructions

help: ## lists these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## builds the proxy and runs it in front of a throw-away cluster, until Ctrl-C
	$(CARGO) build --release --locked --package slotway
	scripts/fetch-servers.sh
	$(BUILD_DIR)/release/slotway demo

test: test-tools ## fetches real servers and client libraries, then runs all tests
	$(CARGO) build --locked --package slotway
	@if $(CARGO) nextest --version >/dev/null 2>&1; then set -x; \
	    SLOTWAY_BIN=$(DEBUG_BINARY) $(CARGO) nextest run --locked --workspace --config-file tests/nextest.toml; \
	else set -x; \
	    SLOTWAY_BIN=$(DEBUG_BINARY) $(CARGO) test --locked --workspace --lib --bins --tests -- --test-threads=1; \
	fi
	$(CARGO) test --locked --workspace --doc --quiet

test-tools:
	scripts/fetch-servers.sh --all
	scripts/fetch-clients.sh

STEPS ?= 3000
RUNS ?= $(if $(SEED),1,5000)

sim: ## simulates the request path with faults of every kind: fresh seeds, or SEED=5 STEPS=3000 RUNS=1
	$(CARGO) run --release --locked --quiet --package slotway-tests --bin sim -- \
	    $(if $(SEED),--seed $(SEED)) --steps $(STEPS) --runs $(RUNS)

mutations: ## breaks the core on purpose, in every way of tests/mutations, and shows that the simulation notices
	scripts/mutations.sh

chaos: ## kills, freezes, moves and drains everything under load for 10 minutes (MINUTES=, SEED=, SERVER=)
	scripts/fetch-servers.sh --all
	$(CARGO) build --release --locked --package slotway --package slotway-tests
	SLOTWAY_BIN=$(BUILD_DIR)/release/slotway $(BUILD_DIR)/release/chaos --minutes $(or $(MINUTES),10) \
	    $(if $(SEED),--seed $(SEED)) $(if $(SERVER),--server $(SERVER)) $(if $(FAULT),--only $(FAULT))

crowd: ## clients that take more than their share, beside ordinary ones: memory, p99 (SERVER=, ONLY=; 5 GB of memory)
	scripts/fetch-servers.sh --all
	$(CARGO) build --release --locked --package slotway --package slotway-tests
	SLOTWAY_BIN=$(BUILD_DIR)/release/slotway $(BUILD_DIR)/release/crowd \
	    $(if $(SERVER),--server $(SERVER)) $(if $(ONLY),--only $(ONLY))

# The harness is built apart: what it needs of the core is no part of the proxy that ships.
bench: ## load through slotway, HAProxy, twemproxy and straight, with all targets (ROUNDS=, SECONDS=, ONLY=, SERVER=)
	scripts/fetch-servers.sh --all
	scripts/fetch-peers.sh
	$(CARGO) build --release --locked --package slotway
	$(CARGO) build --release --locked --package slotway-benches --bin load
	SLOTWAY_BIN=$(BUILD_DIR)/release/slotway $(BUILD_DIR)/release/load --json $(BUILD_DIR)/bench.json \
	    $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(MINUTES),--minutes $(MINUTES)) \
	    $(if $(ONLY),--only $(ONLY)) $(if $(SERVER),--server $(SERVER))

lint: ## formatting, clippy, documentation, generated files, the table of scenarios and the patches of mutations, with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	python3 scripts/generate_commands.py --check
	python3 scripts/check_scenarios.py
	scripts/mutations.sh --check

bench-instructions: ## counts the instructions of the request path and compares with benches/instructions.toml (WRITE=1 rewrites it)
	runner="$$(scripts/fetch-gungraun.sh)" && GUNGRAUN_RUNNER="$$runner" scripts/instructions.py $(if $(WRITE),--write)

fuzz: ## fuzzes the core, all targets one after the other: TARGET=name MINUTES=n JOBS=n; says what it needs
	MINUTES=$(or $(MINUTES),5) JOBS=$(or $(JOBS),1) scripts/fuzz.sh run $(TARGET)

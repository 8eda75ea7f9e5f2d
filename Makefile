# The few commands that matter; `make` alone lists them.

CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
DEBUG_BINARY := $(TARGET)/debug/slotway

.DEFAULT_GOAL := help
.PHONY: help demo test test-tools chaos lint

help: ## lists these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## builds the proxy and runs it in front of a throw-away cluster, until Ctrl-C
	$(CARGO) build --release --locked --package slotway
	scripts/fetch-servers.sh
	$(TARGET)/release/slotway demo

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

chaos: ## kills, freezes, moves and drains everything under load for 10 minutes (MINUTES=, SEED=, SERVER=)
	scripts/fetch-servers.sh --all
	$(CARGO) build --release --locked --package slotway --package slotway-tests
	SLOTWAY_BIN=$(TARGET)/release/slotway $(TARGET)/release/chaos --minutes $(or $(MINUTES),10) \
	    $(if $(SEED),--seed $(SEED)) $(if $(SERVER),--server $(SERVER)) $(if $(FAULT),--only $(FAULT))

lint: ## formatting, clippy, documentation and generated files, with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	python3 scripts/generate_commands.py --check

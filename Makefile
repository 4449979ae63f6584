# Stockade: two commands for a newcomer (`make run`, `make test`), the rest for those who work on it.
# Everything lands in .venv, target/ and .setup/; nothing is installed outside this folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROFILE ?= release
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock

export CARGO_TERM_COLOR ?= auto

.PHONY: setup run test check wheel bench fuzz docs clean

setup: .setup/native

.setup/toolchain:
	@PYTHON="$(PYTHON)" sh scripts/check-toolchain.sh
	@mkdir -p .setup && touch $@

$(VENV)/pyvenv.cfg: | .setup/toolchain
	@echo "setup: making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

.setup/python: requirements.lock $(VENV)/pyvenv.cfg
	@echo "setup: installing the pinned Python packages"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.setup/native: .setup/python $(RUST_SOURCES) pyproject.toml
	@echo "setup: building the Rust engine and gateway (the first time takes some minutes)"
	@. $(BIN)/activate && maturin develop --profile $(PROFILE) --locked
	@touch $@

# ONCE=1 ends after the table; its exit status says whether every attack was stopped and every legitimate call passed.
run: setup
	@$(BIN)/stockade demo $(if $(ONCE),--once)

test: setup check
	@sh scripts/install-test-programs.sh
	@sh scripts/install-test-clients.sh
	@sh scripts/install-test-clients.sh tests/integration/identity/pages/node
	cargo test --release --locked -p stockade-engine -p stockade-gateway -p stockade-fuzz
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/check.sh

# One wheel that holds everything, built for speed.
wheel: .setup/python
	@. $(BIN)/activate && maturin build --profile $(or $(WHEEL_PROFILE),dist) --locked --out dist

# Measured as it is shipped.
bench: setup
	@sh bench/setup.sh
	@. $(BIN)/activate && maturin develop --quiet --profile dist --locked
	@$(BIN)/python -m bench $(BENCH_ARGS)

fuzz: .setup/toolchain
	@sh scripts/fuzz.sh $(FUZZ_ARGS)

docs: setup
	@$(BIN)/python scripts/generate_docs.py

clean:
	rm -rf .setup .venv target dist

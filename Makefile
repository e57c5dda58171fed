# Two commands to begin with: `make demo` and `make test`. Each sets up all it needs, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS ?= tests
BENCH ?=

.PHONY: demo test check format bench lock clean
.DEFAULT_GOAL := demo

$(READY): requirements.lock pyproject.toml src/tis_sync/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tis-sync needs Python 3.11 or newer; this is %s. Say which to use: make PYTHON=python3.11" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip sync --system-certs --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --system-certs --quiet --no-deps --python $(BIN)/python --editable .
	@touch $@

demo: $(READY)  ## A synthetic TCS of 20,000 people, the whole night on it, and a search
	@$(BIN)/tis-sync demo

test: $(READY)  ## All tests; those that need a server that is not there are skipped, with the reason
	@$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90 $(TESTS)

check: $(READY)  ## Lint, format, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)  ## Against the old way and against the limit; sizes by BENCH="--people 300000"
	@$(BIN)/python -m benchmarks $(BENCH)

lock: $(READY)  ## Pin exactly what pyproject.toml allows now
	@$(BIN)/uv pip compile --system-certs --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .tis-sync

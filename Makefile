# Start with `make demo` and `make test`. Each sets up everything it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS ?= tests
TEST_PROCESSES ?= 0
BENCH ?=

.PHONY: demo test check format docs bench lock clean
.DEFAULT_GOAL := demo

$(READY): requirements.lock pyproject.toml src/tis_sync/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tis-sync needs Python 3.11 or newer; this is %s. Choose one: make PYTHON=python3.11" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip sync --system-certs --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --system-certs --quiet --no-deps --python $(BIN)/python --editable .
	@touch $@

demo: $(READY)  ## A synthetic TCS of 20,000 people, a whole night, a search and an export
	@$(BIN)/tis-sync demo

test: $(READY)  ## All tests; a test whose server is missing is skipped, with the reason
ifeq ($(TESTS),tests)
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not alone" --cov --cov-report= tests
	@$(BIN)/python -m pytest -m alone --cov --cov-append --cov-report=term:skip-covered --cov-fail-under=90 tests
else
	@$(BIN)/python -m pytest $(TESTS)
endif

check: $(READY)  ## Lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## Fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(READY)  ## Write the generated parts of docs/: settings, tables of alarms
	@$(BIN)/python scripts/generate-docs --write

bench: $(READY)  ## The Java service's method, tis-sync and the upper bound; BENCH="--people 300000"
	@$(BIN)/python -m benchmarks $(BENCH)

lock: $(READY)  ## Pin the newest versions that pyproject.toml allows
	@$(BIN)/uv pip compile --system-certs --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .tis-sync

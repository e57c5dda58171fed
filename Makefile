# Start with `make demo` and `make test`. Each sets up everything it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS ?= tests
TEST_PROCESSES ?= 4
BENCH ?=
COMPILE := $(BIN)/uv pip compile --system-certs --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: demo test check format docs sbom bench lock clean
.DEFAULT_GOAL := demo

# Everything that is installed is pinned with its SHA-256, and nothing is built but this project.
$(READY): requirements.lock requirements-build.lock pyproject.toml src/tis_sync/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tis-sync needs Python 3.11 or newer; this is %s. Choose one: make PYTHON=python3.11" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --requirement requirements-build.lock
	@$(BIN)/uv pip sync --system-certs --quiet --compile-bytecode --no-build --require-hashes --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --offline --no-deps --no-build-isolation --python $(BIN)/python --editable .
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

docs: $(READY)  ## Write the generated parts of docs/: settings, tables of alarms, licences
	@$(BIN)/python scripts/generate-docs --write
	@$(BIN)/python -m supply_chain licences

sbom: $(READY)  ## Write the software bill of materials to dist/sbom.cdx.json
	@$(BIN)/python -m supply_chain sbom dist/sbom.cdx.json

bench: $(READY)  ## The Java service's method, tis-sync and the upper bound; BENCH="--people 300000"
	@$(BIN)/python -m benchmarks $(BENCH)

lock: $(READY)  ## Pin the newest versions that pyproject.toml allows: everything, what is shipped, what builds it
	@$(COMPILE) --universal --upgrade --extra dev --group build pyproject.toml -o requirements.lock
	@$(COMPILE) --python-platform linux --extra all --constraint requirements.lock pyproject.toml -o requirements-runtime.lock
	@$(COMPILE) --universal --group build --constraint requirements.lock -o requirements-build.lock

clean:
	rm -rf $(VENV) .tis-sync

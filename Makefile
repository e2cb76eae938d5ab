# Every target works in .venv, which the first one called creates. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Index that torch is installed from; empty takes pip's own. See README.md, "CPU or CUDA".
TORCH_INDEX ?=
BASE ?= smollm2-135m
STORE ?= adapters
PORT ?= 8000
TEST_WORKERS ?= 2
PYTEST_ARGS ?=
SOAK_MINUTES ?= 10
BENCH_ARGS ?=
BENCH_OUT ?= build/bench/baseline.json

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)

.PHONY: setup
setup: $(STAMP) ## Create .venv with the tested versions of everything

$(BIN)/python:
	@echo "[1/3] Creating $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -c 'import sys; sys.exit("Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@"$(PYTHON)" -m venv $(VENV)

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard server/kernels/native/*) | $(BIN)/python
	@$(PIP) install -qq --upgrade --constraint constraints.txt pip
	@echo "[2/3] Installing $(TORCH) from $(or $(TORCH_INDEX),pip's own index)"
	@$(PIP) freeze | grep -q '^$(TORCH)\($$\|+\)' || $(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@echo "[3/3] Installing Switchyard and what it needs (a minute or two)"
	@$(PIP) install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $@
	@echo "Ready: $(BIN)/switchyard --help"

.PHONY: demo
demo: setup ## See several adapters answer in one batch on one small real model
	@$(BIN)/switchyard demo

.PHONY: serve
serve: setup ## Serve BASE with the adapters in STORE on PORT
	@$(BIN)/switchyard serve --base "$(BASE)" --store "$(STORE)" --port "$(PORT)"

.PHONY: check
check: setup ## Lint, format and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: docs
docs: setup ## Write the tables of docs/reference and the dashboard anew from the code
	@$(BIN)/python -m tests.docs.generated_tables
	@$(BIN)/python -m tests.deployment.dashboard

.PHONY: test
test: check ## All checks, then all tests (PYTEST_ARGS="-k store" for some)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

.clients/python: tests/clients/requirements.txt
	@echo "Setting other clients up below .clients"
	@"$(PYTHON)" -m venv $@
	@$@/bin/python -m pip --disable-pip-version-check install -qq -r $<
	@touch $@

.clients/node: tests/clients/node/package-lock.json tests/clients/node/driver.mjs
	@mkdir -p $@
	@cp tests/clients/node/*.json tests/clients/node/driver.mjs $@
	@if command -v npm >/dev/null; then npm --prefix $@ ci --silent; else echo "No npm: the client for Node is left out"; rm $@/driver.mjs; fi
	@touch $@

.PHONY: clients
clients: setup .clients/python .clients/node ## Drive other clients (openai for Node, LiteLLM, LangChain, LoRAX) for real
	$(BIN)/python -m pytest -m clients $(PYTEST_ARGS)

.PHONY: bench
bench: setup ## Measure tokens/s at 1, 4 and 16 clients over 16 adapters
	@mkdir -p "$(dir $(BENCH_OUT))"
	@$(BIN)/python -m loadtest baseline --base "$(BASE)" --out "$(BENCH_OUT)" $(BENCH_ARGS)

.PHONY: soak
soak: setup ## Hurt a real server in many ways for SOAK_MINUTES (10), then fuzz one as long; kill, crowd and race a store
	SOAK_MINUTES="$(SOAK_MINUTES)" $(BIN)/python -m pytest -m soak -s $(PYTEST_ARGS)

.PHONY: constraints
constraints: setup ## Write constraints.txt from what .venv holds
	@{ sed -n '/^#/p' constraints.txt; \
	   $(BIN)/python -m pip freeze --all --exclude-editable | sed 's/^\(torch==[^+]*\)+.*/\1/'; } > constraints.txt.tmp
	@mv constraints.txt.tmp constraints.txt

.PHONY: clean
clean: ## Remove caches and build outputs
	@rm -rf build dist .clients *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .demo
	@find adapters_store loadtest server tests -type d -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove .venv as well
	@rm -rf $(VENV)

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r target text; do \
	   printf '  make %-12s %s\n' "$$target" "$$text"; done

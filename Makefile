SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
TORCH ?= torch==2.13.0
PICTURES ?= pictures
ARGS ?=

PAGE := src/limner/server/static/index.html
PAGE_SOURCES := $(shell find web/src web/public web/index.html web/*.ts web/*.json -type f ! -name schema.d.ts)

.PHONY: help setup demo serve test check fmt gen web shots bench train

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## Make the virtual environment: engine, tests, training

demo: $(VENV)/.native ## Paint four pictures into ./pictures
	@echo "Painting four pictures, in three stages each. Nothing is downloaded."
	@$(BIN)/limner generate --prompts examples/prompts.txt --preset progressive --seed 7 --out $(PICTURES)
	@echo
	@echo "The pictures are in ./$(PICTURES). Now try:"
	@echo "  $(BIN)/limner generate \"two yellow birds in the sky\" --count 2"
	@echo "  $(BIN)/limner generate \"一只红色的猫\" --lora ink:1"
	@echo "  $(BIN)/limner inspect $(PICTURES)/a-red-boat-on-the-sea-7.png"
	@echo "  $(BIN)/limner --help"

serve: $(VENV)/.native ## Open the studio on http://127.0.0.1:9000 (ARGS="--port 8000")
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory web; \
	else echo "Without Node there is no studio to build; the API works all the same." >&2; fi
	@exec $(BIN)/limner serve $(ARGS)

test: $(VENV)/.dev $(PAGE) browser ## Run all tests (ARGS="-k name" for some)
	@cd web && npm --silent test
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev $(VENV)/.web ## Lint, formatting, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@cd web && npm --silent run check

fmt: $(VENV)/.dev $(VENV)/.web ## Put the code into shape
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .
	@cd web && npm --silent run fmt

gen: $(VENV)/.dev ## Write the generated pages of docs/ anew
	@$(BIN)/python docs/generate.py

web: $(PAGE) ## Build the studio's page into the package

shots: $(VENV)/.dev $(PAGE) browser ## Paint the pictures of the studio in docs/images anew
	@$(BIN)/python -m docs.shots

bench: $(VENV)/.dev ## Measure speed and memory, against diffusers
	@$(BIN)/python -m tests.bench $(ARGS)

train: $(VENV)/.dev ## Make the built-in checkpoint again; resumes
	@$(BIN)/python training/train.py $(ARGS)

# The first Python that runs and is new enough; a shim of a version that is not installed does not run.
$(BIN)/python:
	@for python in python3.13 python3.12 python3.11 python3; do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$("$$python" --version)"; exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "limner needs Python 3.11 or newer, with venv. Install it and run make again." >&2; exit 1

$(VENV)/.native: pyproject.toml | $(BIN)/python
	@echo "Installing limner and its engine into $(VENV) (this takes a few minutes the first time)"
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install '$(TORCH)'
	@$(PIP) install --editable '.[native]'
	@touch $@

$(VENV)/.dev: $(VENV)/.native
	@echo "Installing what tests and training need into $(VENV)"
	@$(PIP) install --editable '.[native,postgres,s3,dev,train]'
	@touch $@

$(VENV)/.web: web/package.json web/package-lock.json | $(BIN)/python
	@command -v npm >/dev/null || { echo "Building the studio needs Node 20.19 or newer. Install it and run make again." >&2; exit 1; }
	@echo "Installing what builds the studio into web/node_modules"
	@cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(PAGE): $(PAGE_SOURCES) docs/reference/openapi.json | $(VENV)/.web
	@echo "Building the studio"
	@cd web && npm --silent run build -- --logLevel warn
	@touch $@

.PHONY: browser
browser:
	@command -v chromium >/dev/null || { echo "Installing Chromium, which the tests of the studio need"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq chromium; \
	  else sudo apt-get update -qq && sudo apt-get install -y -qq chromium; fi >/dev/null; } || \
	  { echo "Chromium cannot be installed here. Install it (Debian: apt install chromium) and run make again." >&2; exit 1; }

# Everything that a fresh clone needs; `make` alone lists the targets.

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# constraints.txt was tested with Python 3.11; any later version may serve too.
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3; do $$p -c '$(IS_NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/dev.stamp ## Install everycell and what its developers need into .venv

demo: $(VENV)/runtime.stamp ## Find the cells of a real tissue image; installs only what running needs
	$(BIN)/everycell demo

test: $(VENV)/dev.stamp ## Run the tests
	$(BIN)/python -m pytest

check: docs ## Check format, lint, types, layers and documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/dev.stamp ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

clean: ## Remove .venv and everything built
	rm -rf $(VENV) site dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/dev.stamp: $(VENV)/runtime.stamp
	$(INSTALL) -e ".[dev,docs]"
	@touch $@

$(VENV)/runtime.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(BIN)/python:
	@"$(PYTHON)" -c '$(IS_NEW_ENOUGH)' 2>/dev/null || { \
	  echo "everycell needs Python 3.11 or later; install it, or name it: make setup PYTHON=/path/to/python" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

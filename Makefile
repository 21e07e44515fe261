# Anabranch: every recipe does its own set-up in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format coverage lock schema clean

help: ## This list
	@awk -F ':.*## ' '/^[.a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: .venv/installed ## The set-up alone: a virtual environment with everything

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Anabranch needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	@touch $@

demo: .venv/installed ## Train, run and watch the card-fraud pipeline on simulated events
	$(BIN)/anabranch demo $(ARGS)

test: .venv/installed ## All tests that need no Java
	$(BIN)/python -m pytest --doctest-modules agents topics models tests $(ARGS)

check: .venv/installed ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed ## Put the code into its format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

coverage: .venv/installed ## Tests with branch coverage
	$(BIN)/coverage run -m pytest -q $(ARGS)
	$(BIN)/coverage report

schema: .venv/installed ## Write the JSON Schema of pipeline files anew
	$(BIN)/anabranch check --schema > deploy/pipelines/pipeline.schema.json

lock: ## Resolve all dependencies anew into constraints.txt
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --disable-pip-version-check -e ".[all,dev]"
	{ echo "# Every dependency of .[all,dev], pinned; made by make lock."; \
	  .venv-lock/bin/pip freeze --exclude-editable; } > constraints.txt
	rm -rf .venv-lock

clean: ## Remove what recipes have made, but no models
	rm -rf .venv .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist

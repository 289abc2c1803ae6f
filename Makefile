# Every target does its own set-up first; a second run finds it done and spends a fraction of a second.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
# More arguments for a target: make test ARGS='tests/storage -k overlay', make bench ARGS='--b unix:///run/docker.sock'
ARGS ?=
# One more than there are processors, at most four: half of what the tests do is to wait (on 2 processors
# two workers took 625 s of which 765 s of 1,250 were processor time).
WORKERS := $(shell n=$$(( $$(nproc) + 1 )); echo $$(( n > 4 ? 4 : n )))

.PHONY: help setup demo check test gates format bench clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: Debian packages, .venv, wherry itself
	@tools/setup

demo: setup ## Start a private engine, make two images, run containers in it, leave nothing
	@tools/demo

check: setup ## Formatting, lint, types (strict), layering and the other gates
	@.venv/bin/ruff format --check --quiet || { .venv/bin/ruff format --check; exit 1; }
	@.venv/bin/ruff check --quiet
	@.venv/bin/basedpyright
	@$(PY) -m pytest -q tests/gates

test: ## Everything: make check, then every test
	@tools/setup --with-tests
	@$(MAKE) --no-print-directory check
	@$(PY) -m pytest $(or $(ARGS),-q -n $(WORKERS) --dist loadfile --ignore=tests/gates)

format: setup ## Let ruff format and mend the source
	@.venv/bin/ruff check --fix --quiet || true
	@.venv/bin/ruff format --quiet

bench: setup ## Measure an engine, or two against each other: see docs/performance.md
	@$(PY) -m bench.run $(ARGS)

clean: ## Remove what set-up and builds made
	rm -rf .venv build dist .cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info

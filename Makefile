# SPDX-License-Identifier: Apache-2.0
# The two commands of a newcomer are `make serve` and `make test`; the others are for those who change Beffroi.
# Each makes what it needs first (.venv, from a lock file with hashes) and does it only once.

VENV := .venv
RUN := $(VENV)/bin
DATA := .beffroi
ARGS :=
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help serve test check format docs bench chaos dist lock env dev-env clients-env clean

help: ## Show these lines
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

serve: env ## Start Beffroi; options in ARGS, such as ARGS="--port 9000"
	@exec $(RUN)/beffroi serve --data $(DATA) $(ARGS)

test: dev-env ## Run the tests; options in ARGS, such as ARGS="tests/core -x"
	@exec $(RUN)/python scripts/test $(ARGS)

check: dev-env ## Lint, format, types, import contracts, house rules
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/python -m pytest -q tests/house

format: dev-env ## Put the source into its one form
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix-only .

docs: dev-env ## Build the pages into build/site, both languages; a warning is an error
	@exec $(RUN)/python -m docs.site.build

bench: dev-env ## Measure again what the README claims (an hour; see benchmarks/)
	@exec $(RUN)/python -m benchmarks.run $(ARGS)

chaos: dev-env ## Kill it a hundred times under load, and count (an hour; see tests/chaos/)
	@exec $(RUN)/python -m tests.chaos $(ARGS)

dist: dev-env ## Build the wheel and the source archive into dist/, the same bytes everywhere
	$(RUN)/python -m build --no-isolation

lock: ## Resolve the dependencies again, no release younger than a week (needs uv)
	scripts/lock

env:
	@scripts/environment requirements.lock $(VENV)

dev-env:
	@scripts/environment requirements-dev.lock $(VENV)

clients-env: dev-env # for tests/compat: client libraries, apart from what Beffroi uses itself
	@test -x .venv-clients/bin/python || $(RUN)/python -m venv .venv-clients
	@.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --only-binary :all: --no-deps -r tests/compat/langchain.lock

clean: ## Remove what was made here, except data
	rm -rf $(VENV) .venv-clients dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The two commands of a fresh machine: `make demo` and `make test`. Both make the environment first, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-cluster lint bench format setup clean help

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make the environment in .venv; again only when pyproject.toml has changed

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: needs Python 3.11 or newer: make PYTHON=/path/to/python ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,dev]'
	@touch $@

demo: $(READY)  ## run the recipe on the built-in corpus: about 15 minutes on two cores
	$(BIN)/python jobs/run.py --config jobs/configs/demo.yaml $(ARGS)

test: $(READY) lint  ## format, lint, types and tests
	$(BIN)/python -m pytest $(ARGS)

test-cluster: $(READY)  ## what takes minutes: sweeps, clusters on this machine, authentication, nodes that are lost; by hand
	$(BIN)/python -m pytest -m cluster $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## the same work by ours and by others: a table, and runs/bench.json; ARGS='fbank' for a part
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks $(ARGS)

format: $(READY)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## delete the environment and all caches; results in runs/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

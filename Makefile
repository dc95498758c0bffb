# On a machine with Python 3.11 or later and nothing else of ours:
#
#   make demo    from nothing to ranked answers on real conversations
#   make test    every test there is
#
# Both make their own environment in .venv. PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Threads that spin while they wait make PyTorch several times slower on small virtual machines; and neither the demo nor
# the tests need a model hub.
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test lint format clean

demo: $(VENV)/.demo
	$(BIN)/polyencoders demo --output models/demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "polyencoders needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing polyencoders[$*] into $(VENV) ..."
	@started=$$(date +%s); $(PIP) --editable ".[$*]" && echo "installed in $$(( $$(date +%s) - started )) seconds"
	@touch $@

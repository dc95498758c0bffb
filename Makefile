# On a machine with Python 3.11 or later and nothing else of ours:
#
#   make demo    from nothing to ranked answers on real conversations
#   make serve   what the demo left, over HTTP, with a page
#   make test    every test there is
#   make sanitize    the native kernel's tests under sanitisers
#   make site    the documentation, in build/site
#
# They make their own environment in .venv. PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NATIVE := src/polyencoders/scoring/native
# How many processes share the tests.
JOBS ?= 2
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Threads that spin while they wait make PyTorch several times slower on small virtual machines; and neither the demo nor
# the tests need a model hub.
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo serve test lint format sanitize self-test site lowest audit sbom release clean

demo: $(VENV)/.demo
	$(BIN)/polyencoders demo --output models/demo

serve: $(VENV)/.serve models/demo-index
	$(BIN)/polyencoders serve --index models/demo-index

models/demo-index:
	$(MAKE) demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The native kernel under the address and undefined-behaviour sanitisers: by itself, then in the tests of scoring/.
SANITISE ?= -fsanitize=address,undefined -fno-sanitize-recover=undefined
RUN ?=

sanitize: $(VENV)/.dev self-test
	mkdir -p build/sanitized && cp -r src/polyencoders build/sanitized/ && rm -f build/sanitized/polyencoders/scoring/_kernel*.so
	$(CXX) -std=c++17 -O1 -g -fPIC -shared -fvisibility=hidden -Wno-psabi $(SANITISE) $$($(BIN)/python -m pybind11 --includes) \
		$(NATIVE)/*.cpp -o build/sanitized/polyencoders/scoring/_kernel$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
		PYTHONPATH=build/sanitized $(BIN)/python -m pytest tests/scoring -p no:cacheprovider -k "not memory_does_not_grow"

self-test:
	mkdir -p build
	$(CXX) -std=c++17 -O2 -g -Wall -Wextra -Wno-psabi $(SANITISE) -I$(NATIVE) tests/native/self_test.cpp $(filter-out %/module.cpp,$(wildcard $(NATIVE)/*.cpp)) -pthread -o build/self_test
	$(RUN) ./build/self_test

# Fails on a link that leads nowhere, and on a public name that the reference does not show.
site: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The lowest versions that pyproject.toml allows, in an environment of their own (needs uv).
lowest:
	uv venv --quiet --clear --python $(PYTHON) build/lowest
	uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct $(LOWEST) ".[demo,serve]" "pytest>=8.3" "hypothesis>=6.120" "httpx>=0.27"
	cd build && ./lowest/bin/python -m pytest --rootdir=$(CURDIR) -c $(CURDIR)/pyproject.toml -p no:cacheprovider \
		$(addprefix $(CURDIR)/tests/,scoring runtime index/test_searching.py index/test_adding.py index/test_words.py data evaluation)

# Known holes in what the package needs, as it is installed today; and a list of it all.
audit: $(VENV)/.audit
	$(BIN)/pip-audit --skip-editable --desc on

sbom: $(VENV)/.audit
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json

# What a release needs; then what a person has to do.
release:
	$(PYTHON) tools/release.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "polyencoders needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: $(BIN)/python pyproject.toml setup.py constraints.txt $(wildcard $(NATIVE)/*)
	@echo "installing polyencoders[$*] into $(VENV) ..."
	@started=$$(date +%s); $(PIP) --editable ".[$*]" && echo "installed in $$(( $$(date +%s) - started )) seconds"
	@touch $@

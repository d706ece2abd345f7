# On a fresh machine: `make sweep` or `make test`. Python 3.11 or newer and make are all they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# pip may need a second index for a build of torch: PyPI has the one for CUDA 13, which is large.
# `make sweep TORCH_INDEX=https://download.pytorch.org/whl/cpu` is the small one without CUDA.
CUDA_EXTRA = $(shell $(PYTHON) -B -c 'from gspn2bench.system.driver import cuda_extra; print(cuda_extra())')
TORCH_INDEX ?= $(if $(filter cu12,$(CUDA_EXTRA)),https://download.pytorch.org/whl/cu126)

# folders too: they change when a file goes
SOURCES := $(shell find gspn2bench kernels scenarios -name __pycache__ -prune -o -print)
PROJECT := pyproject.toml LICENSE README.md

NPM := $(shell command -v npm 2>/dev/null)
TSC := node_modules/.bin/tsc

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help sweep test lint lint-js test-long test-gpu mutants clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

sweep: $(VENV)/.runs $(VENV)/.package ## Run the quick sweep and write its report; prints the file's path.
	@$(BIN)/gspn2bench sweep quick
	@$(BIN)/gspn2bench report latest

test: lint ## Check style, types, import directions, and run the tests that need no GPU.
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/pytest -m 'not gpu and not long' -n $$(getconf _NPROCESSORS_ONLN) --dist worksteal

lint: lint-js $(VENV)/.tests $(VENV)/.package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	# from inside .venv, so that both see the installed wheel and not the source tree
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml --strict -p gspn2bench
	cd $(VENV) && bin/lint-imports --config ../pyproject.toml --no-logo

lint-js: $(if $(NPM),$(TSC)) ## Check the types of the report's scripts; skipped without npm, except in CI.
ifneq ($(NPM),)
	$(TSC)
else
	@if [ -n "$$CI" ]; then echo 'lint-js needs Node.js and npm' >&2; exit 1; fi
	@echo 'Skipped: the types of the JavaScript. Node.js and npm are not installed.'
endif

$(TSC): package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

test-long: $(VENV)/.tests $(VENV)/.package ## Run the examples in full, which takes minutes.
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/pytest -m 'long and not gpu'

test-gpu: $(VENV)/.tests $(VENV)/.package ## Run the tests that need a GPU.
	$(BIN)/pytest -m 'gpu and not alone' -n $$(getconf _NPROCESSORS_ONLN) --dist worksteal
	$(BIN)/pytest -m 'gpu and alone'

mutants: $(VENV)/.tests ## Plant faults in copies of the code and show which ones no test notices: minutes.
	$(BIN)/python tests/helpers/mutants.py $(ONLY)

clean: ## Remove what make made; runs and reports stay.
	rm -rf $(VENV) node_modules build dist gspn2bench.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'gspn2bench needs Python 3.11 or newer: make PYTHON=python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.wheel: $(SOURCES) $(PROJECT) | $(BIN)/python
	rm -rf build dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@touch $@

comma := ,
brackets = $(if $(1),[$(1)])

# what the package needs: once, and again when its metadata or the versions change
define install
	@echo 'Installing what gspn2bench$(brackets) needs: some minutes.'
	$(BIN)/pip install --quiet --constraint constraints.txt \
		$(addprefix --extra-index-url ,$(TORCH_INDEX)) "$$(echo dist/*.whl)$(brackets)"
	@touch $@
endef

$(VENV)/.runs: pyproject.toml constraints.txt | $(VENV)/.wheel
	$(call install,$(CUDA_EXTRA))

$(VENV)/.tests: pyproject.toml constraints.txt | $(VENV)/.wheel
	$(call install,$(or $(CUDA_EXTRA),compile)$(comma)test$(comma)dev)

# the package itself: again when its code changes
$(VENV)/.package: $(VENV)/.wheel
	$(BIN)/pip install --quiet --no-deps --force-reinstall dist/*.whl
	@touch $@

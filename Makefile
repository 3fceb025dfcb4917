# Every target sets up what it needs in $(VENV), on a machine that has only python3, pip and make.
# Nothing is installed twice: each set of packages has a stamp that depends on pyproject.toml.

PYTHON ?= python3
VENV   ?= .venv
WORKERS ?= 2
ARGS   ?=

bin := $(VENV)/bin
pip := $(bin)/python -m pip
threads := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-all validate bench docs lint format clean

help: ## Show this list
	@echo 'usage: make TARGET [ARGS=...] [PYTHON=python3] [VENV=.venv]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

demo: $(VENV)/.stamp-base ## Solve a plasma and an engineering problem; pictures and files in demo-output/
	$(bin)/python -m dlra demo --out demo-output $(ARGS)

test: $(VENV)/.stamp-test ## Run the fast tests
	$(threads) $(bin)/python -m pytest -n $(WORKERS) $(ARGS)

test-all: $(VENV)/.stamp-test ## Run all tests, the slow ones too, and require 90 % coverage
	$(threads) $(bin)/python -m pytest -n $(WORKERS) -m '' --timeout=1200 \
	    --cov --cov-report=term-missing:skip-covered --cov-fail-under=90 $(ARGS)

validate: $(VENV)/.stamp-validate ## Check the theorems numerically; report in validation-report/ (ARGS=--quick: a minute)
	$(threads) $(bin)/python -m validation $(ARGS)

bench: $(VENV)/.stamp-bench ## Measure speed and memory beside what else one would use (ARGS=--quick: two minutes)
	$(bin)/python -m validation.benchmarks $(ARGS)

docs: $(VENV)/.stamp-docs ## Build the documentation into docs/_build/html
	$(bin)/python -m sphinx -E -W --keep-going -b html docs docs/_build/html $(ARGS)

lint: $(VENV)/.stamp-lint ## Check style (ruff) and types (pyright)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/pyright --pythonpath $(bin)/python

format: $(VENV)/.stamp-lint ## Format the code and fix what can be fixed
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

clean: ## Remove what was built or cached; the environment in .venv stays
	rm -rf build dist docs/_build demo-output validation-report benchmark-report htmlcov .coverage .coverage.* \
	    .pytest_cache .ruff_cache .hypothesis *.egg-info
	find dlra tests validation docs -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# --- environment ------------------------------------------------------------------------------------------------------

# Where python3 comes without ensurepip (Debian's without python3-venv), its own pip fills the environment from outside.
$(VENV)/.stamp-venv:
	@command -v $(PYTHON) >/dev/null 2>&1 || \
	    { echo 'error: $(PYTHON) not found; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3' >&2; \
	      exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: dlra needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
	           'name another one: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null && $(PYTHON) -m venv $(VENV) || \
	    { $(PYTHON) -m venv --without-pip $(VENV) && \
	      $(PYTHON) -m pip --python $(bin)/python install --quiet pip; } || \
	    { echo 'error: $(PYTHON) can neither make a virtual environment by itself nor with its pip;' \
	           'on Debian or Ubuntu: apt install python3-venv' >&2; exit 1; }
	$(pip) install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.stamp-base: $(VENV)/.stamp-venv pyproject.toml
	@echo 'Installing dlra and its extras into $(VENV) ...'
	$(pip) install --quiet --editable '.[all]'
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-base
	@echo 'Installing the test tools, PyTorch and JAX (once, some minutes) into $(VENV) ...'
	$(pip) install --quiet --group test --group validation --group backends
	@touch $@

$(VENV)/.stamp-validate: $(VENV)/.stamp-base
	$(pip) install --quiet --group validation
	@touch $@

$(VENV)/.stamp-bench: $(VENV)/.stamp-base
	@echo 'Installing PyTorch, JAX and what else dlra is compared with into $(VENV) ...'
	$(pip) install --quiet --group bench
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-base
	@echo 'Installing the documentation tools into $(VENV) ...'
	$(pip) install --quiet --group docs
	@touch $@

$(VENV)/.stamp-lint: $(VENV)/.stamp-base
	@echo 'Installing the linters into $(VENV) ...'
	$(pip) install --quiet --group lint
	@touch $@

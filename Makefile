# make demo | test | test-slow | test-all | lint | clean.  PYTHON picks the interpreter, VENV the environment,
# WORKERS the number of test processes, ARGS more arguments for pytest.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Relative, so that a checkout whose path holds spaces works. pip >= 25.3 reads the second one for isolated builds.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip
# One thread a worker: torch's threads times the workers would outnumber the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test test-slow test-all lint venv clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q torch
	$(PIP) install -q -e '.[demo,test,dev]'
	touch $@

venv: $(STAMP)

demo: $(STAMP)
	$(BIN)/bitspike demo --out demo-out

test: $(STAMP)
	$(PYTEST) $(ARGS)

# Only the slow checks; pytest's exit 5 (there are none) is no failure here.
test-slow: $(STAMP)
	$(PYTEST) -m slow $(ARGS) || test $$? -eq 5

test-all: $(STAMP)
	$(PYTEST) -m '' $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# make demo | test | test-slow | test-all | lint | site | site-serve | site-release | native | clean.  PYTHON picks the
# interpreter, VENV the environment, EXTRAS what is installed with the package, WORKERS the number of test processes,
# ARGS more arguments for pytest.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
ARGS ?=
EXTRAS ?= demo,test,dev

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROJECT := pyproject.toml constraints.txt
NATIVE := CMakeLists.txt $(wildcard csrc/*/*)
# Relative, so that a checkout whose path holds spaces works. pip >= 25.3 reads the second one for isolated builds.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip
# One thread a worker: torch's threads times the workers would outnumber the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test test-slow test-all lint site site-serve site-release venv native clean
.DEFAULT_GOAL := test

# The editable install builds the native library into src/bitspike/_native, so changed C++ code installs again.
$(STAMP): $(PROJECT) $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q torch
	$(PIP) install -q -e '.[$(EXTRAS)]'
	touch $@

venv: $(STAMP)

# The native library alone, without pip and only what changed: for work on csrc/. An environment that lacks nothing
# else counts as installed.
native:
	cmake -S . -B build/native
	cmake --build build/native --parallel $(WORKERS)
	cmake --install build/native
	if [ -e $(STAMP) ] && [ -z "$$(find $(PROJECT) -newer $(STAMP))" ]; then touch $(STAMP); fi

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

# The documentation site in build/site; warnings are errors. The package is installed: only what the extra names is added.
# The variable silences a notice that CONTRIBUTING.md has in its words.
SITE_STAMP := $(VENV)/.site-installed
MKDOCS := NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/python -m mkdocs

$(SITE_STAMP): $(STAMP)
	$(PIP) install -q 'bitspike[site]'
	touch $@

site: $(SITE_STAMP)
	$(MKDOCS) build --strict

site-serve: $(SITE_STAMP)
	$(MKDOCS) serve

# Puts VERSION beside the releases that the branch gh-pages has; nothing is pushed.
site-release: $(SITE_STAMP)
	test -n "$(VERSION)" || { echo "make site-release: VERSION must be given, for instance VERSION=0.1" >&2; exit 2; }
	PATH="$(abspath $(BIN)):$$PATH" SITE_VERSIONS=mike NO_MKDOCS_2_WARNING=1 mike deploy --update-aliases $(VERSION) latest

clean:
	rm -rf build dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

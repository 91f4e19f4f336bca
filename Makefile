# Two commands on a fresh machine:  make tour   and   make test
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# MNIST for the tests and benchmarks that want it; the package never needs it.
export FROMNOISE_DATA ?= $(wildcard $(CURDIR)/../shared/data)

.PHONY: tour test test-all coverage lint types install clean
tour: $(VENV)/.installed
	$(BIN)/fromnoise tour --out runs/tour

# All tests but those that take over 15 seconds each; CI runs test-all.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile

# Branch coverage of the tests that run in one process each; code that only a child process runs counts as missed.
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/basedpyright

install: $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fromnoise needs Python 3.11 or newer; name one with: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist

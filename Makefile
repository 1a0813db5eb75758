# One command a job; each makes its own virtual environment in .venv first.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PYTEST ?= -m 'not slow'

INPUTS ?= 3000
SEED ?= 0
FOLDER ?= build/fuzz

.PHONY: demo test check fuzz docs clean

demo: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/spikemorph demo --out demo

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) $(PYTEST)

fuzz: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m fuzz --inputs $(INPUTS) --seed $(SEED) --folder $(FOLDER)

docs: $(VENV)/.installed
	$(BIN)/python docs/api.py build/docs/api.html

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check $(TORCH)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -c constraints.txt torchvision torchattacks
	touch $@

clean:
	rm -rf $(VENV) build demo *.egg-info

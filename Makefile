# `make` prints what there is to make. PYTHON is the interpreter that .venv is made with;
# with VENV= (empty) it is used as it is, for machines that are already set up.
PYTHON ?= python3
VENV ?= .venv
NETID ?=

IMAGES := $(wildcard ../shared/cats_and_dogs_filtered)

ifneq ($(IMAGES),)
export CATS_AND_DOGS_DIR ?= $(abspath $(IMAGES))
endif
export NETID
export PYTHONDONTWRITEBYTECODE := 1

ifeq ($(VENV),)
PY := $(PYTHON)
READY := interpreter
TEST_READY := interpreter
else
PY := $(VENV)/bin/python
READY := $(VENV)/installed
TEST_READY := $(VENV)/installed-tests
endif

.PHONY: help check execute pdf zip test clean interpreter
.DEFAULT_GOAL := help

help:
	@echo "make check             run every notebook, each alone, and tabulate the results"
	@echo "make execute           the same, and keep outputs and results (NOTEBOOKS=x.ipynb: one)"
	@echo "make pdf               hw2_theory.pdf from hw2_theory.tex"
	@echo "make zip NETID=ab1234  ab1234.zip, the five files to submit"
	@echo "make test              lint and tests, under two minutes, no data, no network"
	@echo "make clean             remove build/"
	@echo "With an interpreter that has the packages: make check PYTHON=python3 VENV="

check: $(READY)
	@$(PY) tools/run_notebooks.py $(NOTEBOOKS)

execute: $(READY)
	@$(PY) tools/run_notebooks.py --in-place $(NOTEBOOKS)
	@$(PY) tools/write_results.py

pdf: interpreter
	@"$(PYTHON)" tools/build_pdf.py

zip: interpreter
	@"$(PYTHON)" tools/make_zip.py "$$NETID"

test: $(TEST_READY)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m pytest -q tests

clean:
	rm -rf build

interpreter:
	@command -v "$(PYTHON)" >/dev/null && "$(PYTHON)" -c "" || \
	  { echo "make: PYTHON=$(PYTHON) is no Python interpreter: name one that runs" >&2; exit 1; }
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "make: PYTHON=$(PYTHON) is older than Python 3.10: name a newer one" >&2; exit 1; }

$(VENV)/installed: requirements.txt | interpreter
	@echo "setting up $(VENV) (once; some minutes and about 6 GB)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --upgrade pip
	@$(VENV)/bin/python -m pip install -r requirements.txt
	@touch $@

$(VENV)/installed-tests: tests/requirements.txt $(VENV)/installed
	@$(VENV)/bin/python -m pip install --disable-pip-version-check -r tests/requirements.txt
	@touch $@

# `make` prints what there is to make. PYTHON is the interpreter that .venv is made with;
# with VENV= (empty) it is used as it is, for machines that are already set up.
PYTHON ?= python3
VENV := .venv
NOTEBOOKS ?=

override NETID := $(value NETID)
export NETID
export PYTHONDONTWRITEBYTECODE := 1

PY := $(if $(VENV),$(VENV)/bin/python,$(PYTHON))
SET_UP := "$(PYTHON)" tools/set_up.py "$(VENV)" "$(origin PYTHON)" requirements.txt

.PHONY: help check execute pdf zip test clean interpreter
.DEFAULT_GOAL := help

help:
	@echo "make check                   run every notebook, each alone, and tabulate the results"
	@echo "make execute                 the same, and keep the outputs and the results"
	@echo "make pdf                     hw2_theory.pdf from hw2_theory.tex"
	@echo "make zip NETID=your_net_id   the archive to submit: the PDF and four notebooks"
	@echo "make test                    lint and tests, under two minutes, no data, no network"
	@echo "make clean                   remove build/"
	@echo "One notebook: make check NOTEBOOKS=hw2_moe.ipynb"
	@echo "With a Python that has the packages: make check PYTHON=python3 VENV="

check: interpreter
	@$(SET_UP)
	@"$(PY)" tools/run_notebooks.py $(NOTEBOOKS)

execute: interpreter
	@$(SET_UP)
	@"$(PY)" tools/run_notebooks.py --in-place $(NOTEBOOKS); status=$$?; \
	  "$(PY)" tools/write_results.py && exit $$status

pdf: interpreter
	@"$(PYTHON)" tools/build_pdf.py

zip: interpreter
	@"$(PYTHON)" tools/make_zip.py "$$NETID"

test: interpreter
	@$(SET_UP) tests/requirements.txt
	@"$(PY)" -m ruff check .
	@"$(PY)" -m ruff format --check .
	@"$(PY)" -m pytest -q tests

clean:
	rm -rf build

interpreter:
	@"$(PYTHON)" -c "" 2>/dev/null || \
	  { echo "make: PYTHON=$(PYTHON) is no Python that runs: name one that does" >&2; exit 1; }
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "make: PYTHON=$(PYTHON) is older than Python 3.10: name a newer one" >&2; exit 1; }

# `make` prints the targets. PYTHON makes .venv; with VENV= (empty) it is used as it is.
PYTHON ?= python3
VENV := .venv
PY := $(if $(VENV),$(VENV)/bin/python,$(PYTHON))
READY := $(if $(VENV),$(VENV)/.installed,packages)
TEX_HAS := lmodern.sty memoir.cls mathtools.sty microtype.sty pgfplots.sty
TEX_NEEDS := latexmk texlive-latex-recommended texlive-pictures lmodern

# The reader's settings for these programs reach nothing that is started below.
FAMILIES := PYTHON% IPYTHON% JUPYTER% MPL% MATPLOTLIB% PYTEST% RUFF% GIT% TEX%
unexport $(filter $(FAMILIES),$(.VARIABLES))
export PIP_USER := 0
export PYTHONDONTWRITEBYTECODE := 1
export NETID NOTEBOOKS

.PHONY: help check execute pdf zip test clean packages
.NOTPARALLEL:

help:
	@echo "make check                   run every notebook and show its results"
	@echo "make execute                 the same, and keep the outputs and the results"
	@echo "make pdf                     hw2_theory.pdf from hw2_theory.tex"
	@echo "make zip NETID=your_net_id   the archive to submit: the PDF and four notebooks"
	@echo "make test                    lint and tests: no data and no network"
	@echo "make clean                   remove build/"
	@echo "One notebook: make check NOTEBOOKS=hw2_moe.ipynb"
	@echo "With a Python that has the packages: make check PYTHON=python3 VENV="

check: $(READY)
	@exec "$(PY)" tools/run.py "$$NOTEBOOKS"
execute: $(READY)
	@exec "$(PY)" tools/run.py --in-place "$$NOTEBOOKS"
zip:
	@"$(PYTHON)" tools/submit.py "$$NETID"
test: $(READY)
	@"$(PY)" -m ruff check . && "$(PY)" -m ruff format --check . && "$(PY)" -m pytest -q tests
clean:
	rm -rf build

pdf: export SOURCE_DATE_EPOCH := 1740459540
pdf: export FORCE_SOURCE_DATE := 1
pdf: hw2_theory.tex
	@command -v latexmk >/dev/null && kpsewhich $(TEX_HAS) >/dev/null || { echo 'TeX is missing: run' \
	  '`sudo apt-get update && sudo apt-get install -y --no-install-recommends $(TEX_NEEDS)`.' >&2; exit 1; }
	@rm -rf build/pdf && mkdir -p build/pdf
	@latexmk -norc -silent -pdf -halt-on-error -file-line-error -outdir=build/pdf hw2_theory.tex >build/pdf/said 2>&1 || \
	  { grep -m1 -A2 -E '^(!|[^ ]*:[0-9]+:)' build/pdf/hw2_theory.log; exit 1; }
	@cp build/pdf/hw2_theory.pdf .hw2_theory.pdf.partial && mv .hw2_theory.pdf.partial hw2_theory.pdf

$(VENV)/.installed: requirements.txt tests/requirements.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo 'Python 3.10 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12 names one.' >&2; exit 1; }
	@echo "setting up $(VENV), once: some minutes and about 6 GB"
	@"$(PYTHON)" -m venv "$(VENV)"
	@"$(PY)" -m pip install --disable-pip-version-check -r requirements.txt -r tests/requirements.txt
	@touch "$@"
packages:
	@"$(PYTHON)" -c "import importlib.util, re, sys; needed = re.findall('(?m)^[a-z]+', open('requirements.txt').read()); \
	  lacks = ' '.join(name for name in needed if not importlib.util.find_spec(name)); \
	  lacks and sys.exit(f'This Python lacks {lacks}: run \`$(PYTHON) -m pip install {lacks}\`.')"

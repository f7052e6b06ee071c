"""What holds for every committed notebook: run, clean, small, self-contained, true."""

import ast
import re
import sys
import warnings

import nbformat
import pytest
import submit
from conftest import ROOT

COME_ALONG = {"IPython", "PIL"}  # with jupyter, and with matplotlib
RESIDUE = r"Warning|widget-view|findfont|\r|/(root|home|tmp|work|Users|usr|opt)/"
NUMBER = r"\d[\d,_]*(?:\.\d+)?(?:e[-+]?\d+)?"
# Links, addresses, HTML; years; "Neural Computation 9(8), 1735–1780".
ASIDE = r"\[[^\]]*\]\([^)]*\)|https?:\S+|arXiv:\S+|<[^>]*>|\b(?:19|20)\d\d\b|\d+–\d{3,}"


@pytest.fixture(params=submit.NOTEBOOKS)
def path(request):
    return ROOT / request.param


@pytest.fixture
def cells(path):
    return submit.code_cells(submit.read(path.read_bytes()))


@pytest.fixture
def prose(path):
    cells = submit.read(path.read_bytes())["cells"]
    return "\n\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")


def test_file_is_valid_and_small(path):
    assert path.stat().st_size <= 3_000_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as for an id that two cells share
        read = nbformat.read(path, as_version=4)
        nbformat.validate(read)
    assert read.nbformat_minor >= 5 and read.metadata.kernelspec.name == "python3"


def test_fit_to_be_handed_in_as_make_execute_left_it(path):
    notebook = submit.read(path.read_bytes())
    assert submit.faults(notebook) == []
    run = notebook["metadata"]["run"]
    assert run | submit.stamp(notebook) == run, "run `make execute`"


def test_outputs_hold_no_residue_and_no_format_of_our_own(cells):
    for cell in cells:
        text = "".join(submit.shown([cell], "text/"))
        assert not re.search(RESIDUE, text), cell["id"]
        for output in cell["outputs"]:
            assert output.get("name") != "stderr", cell["id"]
            assert {*output.get("data", ())} <= {"text/plain", "text/html", "image/png"}


def test_cells_are_short_plain_python_and_shown(path, cells):
    for cell in cells:
        assert len(cell["source"].splitlines()) <= 45, cell["id"]
        ast.parse(cell["source"])  # no magics
    hidden = [c for c in cells if c["metadata"].get("jupyter", {}).get("source_hidden")]
    assert len(hidden) <= 2 * (path.stem == "hw2_cnn")


def test_imports_are_required_or_standard_and_nothing_of_ours(cells):
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell["source"]))]
    names = [n.module or "." for n in nodes if isinstance(n, ast.ImportFrom)]
    names += [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    listed = re.findall(r"(?m)^[a-z]+", (ROOT / "requirements.txt").read_text())
    allowed = {*listed, *COME_ALONG, *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in names} <= allowed


def test_headings_and_the_last_part(prose, cells):
    headings = re.findall(r"(?m)^#+ .*", prose)
    assert [heading for heading in headings if heading.startswith("# ")] == headings[:1]
    assert headings[-1] == "## What we learned"
    assert "**Try it**" in prose.split(headings[-1])[1]
    tags = [cell["metadata"].get("tags", []) for cell in cells]
    assert [tag for tag in tags if "results" in tag] == tags[-1:]
    assert re.match(r".* got +asked\n", "".join(submit.shown(cells[-1:], "text/")))
    cover = [cell for cell in cells if "cover" in cell["metadata"].get("tags", [])]
    assert len(cover) == 1 and submit.shown(cover, "image/png")


def test_numbers_of_the_text_stand_in_code_or_outputs(cells, prose):
    """Each of three digits or more; not years, citations, and what to try."""
    there = "\n".join([c["source"] for c in cells] + submit.shown(cells, "text/"))
    values = {float(re.sub("[,_]", "", n)) for n in re.findall(NUMBER, there)}
    told = prose.partition("**Try it**")[0]
    told = [n.rstrip(",") for n in re.findall(NUMBER, re.sub(ASIDE, "", told))]
    told = [n for n in told if sum(map(str.isdigit, n)) >= 3]
    assert [n for n in told if float(n.replace(",", "")) not in values] == []

"""What holds for every committed notebook: run, clean, small, self-contained, true."""

import ast
import re
import sys
import warnings

import nbformat
import pytest
import submit
from conftest import ROOT

# `jupyter` brings the first and `torchvision` and `matplotlib` the second.
COME_ALONG = {"IPython", "PIL"}
FOLDERS = r"/(?:root|home|tmp|work|Users|usr|opt)/"
RESIDUE = re.compile(rf"Warning|widget-view|findfont|\r|{FOLDERS}")
NUMBER = re.compile(r"\d[\d,_]*(?:\.\d+)?(?:e[-+]?\d+)?")
# Links, addresses, HTML; years; "Neural Computation 9(8), 1735–1780".
ASIDE = (
    r"\[[^\]]*\]\([^)]*\)|https?:\S+|arXiv:\S+|<[^>]*>|\b(?:19|20)\d\d\b|\d+[–-]\d{3,}"
)
COLLAPSED = {"hw2_cnn.ipynb": 2}  # cells of plumbing, at most; none in the others


@pytest.fixture(params=submit.NOTEBOOKS)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return submit.read((ROOT / name).read_bytes())


@pytest.fixture
def prose(notebook):
    cells = notebook["cells"]
    return "\n\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")


def test_file_is_valid_and_small(name):
    assert (ROOT / name).stat().st_size <= 3_000_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as for an id that two cells share
        read = nbformat.read(ROOT / name, as_version=4)
        nbformat.validate(read)
    assert read.nbformat_minor >= 5
    assert read.metadata.kernelspec.name == "python3"


def test_fit_to_be_handed_in_and_the_stamp_is_of_this_run(notebook):
    assert submit.faults(notebook) == []
    assert notebook["metadata"]["run"] == {
        "took": notebook["metadata"]["run"]["took"],
        **submit.stamp(notebook),
    }, "run `make execute`"


def test_outputs_hold_no_residue_and_no_format_of_our_own(notebook):
    for cell in submit.code_cells(notebook):
        assert not RESIDUE.search("".join(submit.shown([cell], "text/"))), cell["id"]
        for output in cell["outputs"]:
            assert output.get("name") != "stderr", cell["id"]
            kinds = set(output.get("data", ()))
            assert kinds <= {"text/plain", "text/html", "image/png"}, cell["id"]


def test_cells_are_short_plain_python_and_shown(name, notebook):
    hidden = 0
    for cell in submit.code_cells(notebook):
        assert len(cell["source"].splitlines()) <= 45, cell["id"]
        ast.parse(cell["source"])  # no magics
        hidden += cell["metadata"].get("jupyter", {}).get("source_hidden", False)
    assert hidden <= COLLAPSED.get(name, 0)


def test_imports_are_required_or_standard_and_nothing_of_ours(notebook):
    source = "\n".join(cell["source"] for cell in submit.code_cells(notebook))
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." if node.level else node.module.split(".")[0])
    listed = re.findall(r"(?m)^[a-z]+", (ROOT / "requirements.txt").read_text())
    assert imported <= {*listed, *COME_ALONG, *sys.stdlib_module_names}


def test_headings_and_the_last_part(prose, notebook):
    headings = re.findall(r"(?m)^#+ .*", prose)
    assert headings[0].startswith("# ")
    assert sum(heading.startswith("# ") for heading in headings) == 1
    assert headings[-1] == "## What we learned"
    assert "**Try it**" in prose.split(headings[-1])[1]
    tags = [c["metadata"].get("tags", []) for c in submit.code_cells(notebook)]
    assert ["results" in tag for tag in tags] == [False] * (len(tags) - 1) + [True]
    assert sum("cover" in tag for tag in tags) == 1
    printed = "".join(submit.shown(submit.code_cells(notebook)[-1:], "text/"))
    assert re.match(r".* got +asked\n", printed)


def test_a_picture_comes_soon_and_stands_in_the_cell_for_the_cover(notebook):
    cells = submit.code_cells(notebook)
    cover = [c for c in cells if "cover" in c["metadata"].get("tags", [])]
    assert submit.shown(cells[:9], "image/png") and submit.shown(cover, "image/png")


def test_numbers_of_the_text_stand_in_code_or_outputs(notebook, prose):
    """Each of three digits or more, years and citations aside."""
    cells = submit.code_cells(notebook)
    there = "\n".join([c["source"] for c in cells] + submit.shown(cells, "text/"))
    values = {float(re.sub("[,_]", "", n)) for n in NUMBER.findall(there)}
    told = [n.rstrip(",") for n in NUMBER.findall(re.sub(ASIDE, "", prose))]
    told = [n for n in told if sum(map(str.isdigit, n)) >= 3]
    assert [n for n in told if float(n.replace(",", "")) not in values] == []

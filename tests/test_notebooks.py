"""What holds for every committed notebook: run, clean, small, and as design.md lays out."""

import ast
import json
import re

import nbformat
import notebooks
import pytest
from conftest import ROOT

PATHS = sorted(ROOT.glob("*.ipynb"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return notebooks.read(request.param)


def test_fit_to_be_handed_in(notebook):
    assert notebooks.faults(notebook) == []


def test_outputs_hold_no_residue(notebook):
    for cell in notebooks.code_cells(notebook):
        for output in cell.outputs:
            blob = json.dumps(output)
            assert output.get("name") != "stderr", cell.id
            assert "widget-view" not in blob, cell.id
            assert "Warning" not in notebooks.text_of(output), cell.id
            assert "\\r" not in blob, cell.id
            assert not re.search(
                r"/(root|home|tmp|work|Users)/", notebooks.text_of(output)
            )


def test_cells_are_short_and_lines_fit(notebook):
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebooks.code_cells(notebook):
        assert len(cell.source.splitlines()) <= 60, cell.id
        ast.parse(cell.source)  # plain Python: no magics


def test_headings(notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^#+ .*", "\n".join(prose), flags=re.MULTILINE)
    assert headings[0].startswith("# ")
    assert sum(heading.startswith("# ") for heading in headings) == 1
    assert headings[-1] == "## Acceptance"


def test_acceptance_is_the_last_code_cell_and_all_pass(notebook):
    last = notebooks.code_cells(notebook)[-1]
    assert last.metadata.tags == ["acceptance"]
    rows = notebooks.acceptance(notebook)
    assert rows
    assert [row for row in rows if row[-1] != "pass"] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_size(path):
    assert path.stat().st_size <= 3_000_000
    assert nbformat.read(path, 4).nbformat_minor >= 5  # stable cell ids

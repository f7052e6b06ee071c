"""README.md: its results are those of the committed notebooks, what it names exists."""

import re
import shutil

import notebooks
import pytest
import write_results
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def part(heading: str) -> str:
    return README.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_results_are_those_of_the_notebooks():
    inside = README.split(write_results.BEGIN)[1].split(write_results.END)[0]
    assert inside.strip() == write_results.table(ROOT), "run tools/write_results.py"


def test_a_stray_notebook_changes_nothing_and_a_missing_one_is_named(tmp_path):
    for name in notebooks.NOTEBOOKS:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "scratch.ipynb").write_text("{")
    assert write_results.table(tmp_path) == write_results.table(ROOT)
    (tmp_path / "hw2_moe.ipynb").unlink()
    with pytest.raises(ValueError, match="hw2_moe.ipynb is missing"):
        write_results.table(tmp_path)


def test_what_it_names_exists():
    for name in re.findall(r"(?m)^\| `([^`]+)`", part("What is where")):
        assert (ROOT / name).exists(), name


def test_every_question_is_answered_where_it_says():
    rows = part("Where each question is answered")
    paper = (ROOT / "hw2_theory.tex").read_text()
    asked = re.findall(r"(?m)^\\question\{(.*?)\}", paper)
    assert re.findall(r"\b1\.[123][.\d]*(?:\([a-z]+\))+", rows) == asked
    headings, named = [], []
    for row in rows.splitlines():
        if name := re.search(r"`(\w+\.ipynb)` \|$", row):
            cells = notebooks.read(ROOT / name[1])["cells"]
            text = "\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")
            headings = re.findall(r"(?m)^##+ (.*)", text)
            named.append(name[1])
        for answer in re.findall(r"\*(.+?)\*", row):
            assert any(heading.startswith(answer) for heading in headings), answer
    assert sorted({*named}) == sorted(notebooks.NOTEBOOKS)


def test_lines_fit_and_no_net_id_stands_there_to_be_pasted():
    for line in README.splitlines():
        assert line.startswith("|") or len(line) <= 160, line
    assert re.findall(r"NETID=(\w*)", README) == ["your_net_id"]

"""README.md: results and seconds of the committed notebooks, and names that exist."""

import re

import pytest
import submit
from conftest import ROOT
from run import tagged

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", submit.NAMES)
def test_results_seconds_and_machine_are_those_of_the_notebook(name):
    notebook = submit.read((ROOT / f"{name}.ipynb").read_bytes())
    block = README.split(f"<!-- {name} -->\n")[1].split("\n<!-- end -->")[0]
    results, took = tagged(notebook, "results"), notebook["metadata"]["run"]["took"]
    assert block == f"`{name}`, {took}:\n\n```text\n{results}\n```"


def test_pictures_are_there_and_small():
    names = re.findall(r'<img src="(docs/\w+\.png)"', README)
    assert names == [f"docs/{name}.png" for name in submit.NAMES]
    assert sum((ROOT / name).stat().st_size for name in names) <= 300_000


def test_files_it_names_exist():
    named = re.findall(r"`((?:tools|tests|\.ci|hw2_|seq_)[\w./]*)`", README)
    assert named and [n for n in named if not (ROOT / n).exists()] == []


def test_every_question_is_answered_where_it_says():
    rows = README.split("## Where each question is answered\n")[1].split("\n## ")[0]
    asked = re.findall(r"(?m)^\\question\{(.*?)\}", (ROOT / submit.TEX).read_text())
    assert re.findall(r"\b1\.[123][.\d]*(?:\([a-z]+\))+", rows) == asked
    for name, answers in re.findall(r"`(\w+\.ipynb)`, (\*.*\*) \|", rows):
        cells = submit.read((ROOT / name).read_bytes())["cells"]
        text = "\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")
        headings = "\n".join(re.findall(r"(?m)^##+ .*", text))
        for answer in re.findall(r"\*(.+?)\*", answers):
            assert answer in headings, (name, answer)
    assert {*re.findall(r"\w+\.ipynb", rows)} == {*submit.NOTEBOOKS}


def test_no_net_id_stands_there_to_be_pasted():
    assert re.findall(r"NETID=(\w*)", README) == ["your_net_id"]

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
    results, took = tagged(notebook, "results"), notebook["metadata"]["run"]["took"]
    block = f"`{name}`, {took}:\n```text\n{results}\n```"
    assert f"<!-- {name} -->\n{block}\n<!-- end -->" in README, "run `make execute`"


def test_files_that_it_names_exist_and_its_pictures_are_small():
    named = re.findall(r"[`\"]((?:tools|tests|docs|hw2_|seq_)[\w/]*\.\w+)[`\"]", README)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert {f"docs/{name}.png" for name in submit.NAMES} <= {*named}
    assert sum(path.stat().st_size for path in ROOT.glob("docs/*.png")) <= 300_000
    assert re.findall(r"NETID=(\w*)", README) == ["your_net_id"]  # not one to be pasted


def test_every_question_is_answered_where_it_says():
    rows = README.split("## Where each question is answered\n")[1].split("\n## ")[0]
    asked = re.findall(r"(?m)^\\question\{(.*?)\}", (ROOT / submit.TEX).read_text())
    assert re.findall(r"\b1\.[123][.\d]*(?:\([a-z]+\))+", rows) == asked
    for name in submit.NOTEBOOKS:
        cells = submit.read((ROOT / name).read_bytes())["cells"]
        text = "\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")
        headings = "\n".join(re.findall(r"(?m)^##+ .*", text))
        answers = re.findall(r"\*(.+?)\*", "".join(re.findall(f"`{name}`, (.*)", rows)))
        assert answers and [a for a in answers if a not in headings] == [], name

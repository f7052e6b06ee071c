"""README.md: its results are those of the committed notebooks, its files exist."""

import re

import write_results
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_results_are_those_of_the_notebooks():
    inside = README.split(write_results.BEGIN)[1].split(write_results.END)[0]
    assert inside.strip() == write_results.table(ROOT), "run tools/write_results.py"


def test_worst_of_seeds_goes_by_the_bar():
    got = ["0.92", "0.9", "10.5"]
    assert write_results.worst(got, ">= 0.9", "-") == "0.9 (of 3)"
    assert write_results.worst(got, "-", "<= 10") == "10.5 (of 3)"
    assert write_results.worst(["0.92"], ">= 0.9", "-") == ""  # one seed has no worst
    assert write_results.worst(["4", "4"], "4", "-") == ""  # no direction


def test_what_it_names_exists():
    table = README.split("## What is where")[1]
    for name in re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_targets_it_names_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target

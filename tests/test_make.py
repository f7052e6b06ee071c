"""The Makefile: each target on small files, and nothing of the reader's in the way."""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from conftest import PLOT, make, write
from run import CORES
from submit import NAMES, NOTEBOOKS, PDF, TEX

PAPER = r"""\documentclass{article}
\usepackage{lmodern}
\pdfinfo{/SourceMD5 (\pdfmdfivesum file {hw2_theory.tex})}\pdftrailerid{}
\begin{document}
\today: BODY
\end{document}
"""
STAMP = hashlib.md5(PAPER.encode()).hexdigest().upper()
MARK = """
import time
from pathlib import Path
for pause in 1, 0:
    Path(f"{time.time()} NAME").touch()
    time.sleep(pause)"""


def test_execute_zip_and_clean(folder):
    """And hw2_cnn runs alone before the others, which run side by side."""
    for name in NAMES:
        write(f"{name}.ipynb", PLOT + MARK.replace("NAME", name))
    Path(TEX).write_text(PAPER)
    Path(PDF).write_text(STAMP)
    assert make("execute")[0] == 0
    order = [path.name.split()[1] for path in sorted(Path().glob("* *"))]
    assert len(order) == 8 and order[:2] == ["hw2_cnn"] * 2
    assert order[2] != order[3] or CORES == 1
    assert make("zip", "NETID=ab1234")[0] == 0
    assert zipfile.ZipFile("ab1234.zip").namelist() == sorted([PDF, *NOTEBOOKS])
    assert make("clean")[0] == 0 and not Path("build").exists()


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="TeX is missing")
def test_pdf_is_the_same_bytes_anywhere_or_the_error(folder):
    """With a TEXINPUTS of the reader, and with build/ on another disk."""
    Path(TEX).write_text(PAPER)
    assert make("pdf")[0] == 0
    first = Path(PDF).read_bytes()
    assert STAMP.encode() in first
    shutil.rmtree("build")
    other_disk = "/dev/shm" if Path("/dev/shm").exists() else None
    with tempfile.TemporaryDirectory(dir=other_disk) as elsewhere:
        Path("build").symlink_to(elsewhere)
        Path(PDF).unlink()
        status, said = make("pdf", TEXINPUTS="/nowhere", TZ="Asia/Tokyo")
        assert status == 0, said
        Path(TEX).write_text(PAPER.replace("BODY", r"\nothing"))
        status, said = make("pdf")
    assert status and "hw2_theory.tex:5: Undefined control sequence" in said
    assert Path(PDF).read_bytes() == first


def test_make_test_reads_nothing_of_folders_above_or_of_the_reader(folder):
    above = '[tool.ruff]\nx = 1\n[tool.pytest.ini_options]\naddopts = "--nonsense"'
    Path("pyproject.toml").write_text(above)
    Path("numpy.py").write_text("raise ImportError")
    Path("clone/tests").mkdir(parents=True)
    os.chdir("clone")
    test = "import numpy\n\n\ndef test_it():\n    assert numpy\n"
    Path("tests/test_it.py").write_text(test)
    reader = {"PYTEST_ADDOPTS": "--nonsense", "PYTHONPATH": str(folder)}
    status, said = make("test", **reader)
    assert status == 0 and "1 passed" in said, said


def test_set_up_is_made_once_whatever_pip_is_told(folder):
    """With PIP_USER, a pip.conf, and `make -j2` in a fresh clone."""
    Path("tests").mkdir()
    for name in ("requirements.txt", "tests/requirements.txt"):
        Path(name).touch()
    Path("pip.conf").write_text("[install]\nuser = true\n")
    Path("envs").mkdir()
    Path("envs/mine").touch()
    reader = {"PIP_USER": "1", "PIP_CONFIG_FILE": str(folder / "pip.conf")}
    _, said = make("-j2", "check", "test", "VENV=envs", **reader)
    assert said.count("setting up envs, once") == 1
    assert "No module named 'nbformat'" in said  # as nothing was to be installed
    assert Path("envs/.installed").exists() and Path("envs/mine").exists()


def test_what_is_missing_is_said_in_a_sentence(folder):
    targets = re.findall(r"(?m)^make (\w+) ", make()[1])
    assert targets == ["check", "execute", "pdf", "zip", "test", "clean"]
    Path(TEX).touch()
    said = make("pdf", PATH=str(folder))[1]
    assert "TeX is missing: run `sudo apt-get update && sudo apt-get install" in said
    Path("requirements.txt").write_text("# a comment\nsys~=3\nnowhere~=1.1\n")
    command = f"run `{sys.executable} -m pip install nowhere`"
    assert f"This Python lacks nowhere: {command}.\n" in make("check")[1]
    Path("tests").mkdir()
    Path("tests/requirements.txt").touch()
    Path("old").symlink_to(shutil.which("false"))
    said = make("check", "PYTHON=./old", "VENV=envs")[1]
    assert "Python 3.10 or newer is needed: make check PYTHON=python3.12" in said

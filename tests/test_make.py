"""The Makefile: each target on small files, and nothing of the reader's in the way."""

import hashlib
import os
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
MARK = "\nimport time; from pathlib import Path\ndef mark(): "
MARK += "Path(f'{time.time()} NAME').touch()\nmark(); time.sleep(1); mark()"


def test_make_alone_lists_the_targets(folder):
    status, said = make()
    assert status == 0
    for target in ("check", "execute", "pdf", "zip", "test", "clean"):
        assert f"make {target}" in said


def test_execute_zip_and_clean(folder):
    """And hw2_cnn runs alone before the others, which run side by side."""
    for name in NAMES:
        write(f"{name}.ipynb", PLOT + MARK.replace("NAME", name))
    Path(TEX).write_text(PAPER)
    Path(PDF).write_text(
        f"/SourceMD5 ({hashlib.md5(PAPER.encode()).hexdigest().upper()})"
    )
    assert make("execute")[0] == 0
    order = [path.name.split()[1] for path in sorted(Path().glob("* *"))]
    assert order[:2] == ["hw2_cnn"] * 2 and len(order) == 8
    assert order[2] != order[3] or CORES == 1
    assert make("zip", "NETID=ab1234")[1].endswith("MB, five files\n")
    assert sorted(zipfile.ZipFile("ab1234.zip").namelist()) == sorted([PDF, *NOTEBOOKS])
    assert make("clean")[0] == 0 and not Path("build").exists()


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="TeX is missing")
def test_pdf_is_the_same_bytes_anywhere_or_the_error(folder):
    """With TEXINPUTS set (fault 1), and with build/ on another disk (fault 6)."""
    Path(TEX).write_text(PAPER)
    assert make("pdf")[0] == 0
    first = Path(PDF).read_bytes()
    assert first.count(hashlib.md5(PAPER.encode()).hexdigest().upper().encode()) == 1
    shutil.rmtree("build")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        Path("build").symlink_to(elsewhere)
        status, said = make("pdf", TEXINPUTS="/nowhere", TZ="Asia/Tokyo")
        assert status == 0, said
    assert Path(PDF).read_bytes() == first
    Path("build").unlink()
    Path(TEX).write_text(PAPER.replace("BODY", r"\nothing"))
    status, said = make("pdf")
    assert status and "hw2_theory.tex:5: Undefined control sequence" in said
    assert Path(PDF).read_bytes() == first


def test_without_tex_it_says_the_command(folder):
    status, said = make("pdf", PATH=str(folder))
    assert status and "TeX is missing: run `sudo apt-get update && sudo apt-get" in said


def test_make_test_reads_no_settings_of_folders_above(folder):
    """Fault 4, and the reader's variables (fault 1)."""
    above = (
        '[tool.ruff]\nnonsense = 1\n[tool.pytest.ini_options]\naddopts = "--nonsense"'
    )
    Path("pyproject.toml").write_text(above)
    Path("foreign").mkdir()
    Path("foreign/numpy.py").write_text("raise ImportError")
    foreign = str(folder / "foreign")
    Path("clone/tests").mkdir(parents=True)
    os.chdir("clone")
    test = "import os\n\nimport numpy\n\n\ndef test_it():\n"
    test += '    assert numpy and not os.environ.get("GIT_DIR")\n'
    Path("tests/test_it.py").write_text(test)
    reader = {"PYTEST_ADDOPTS": "--nonsense", "PYTHONPATH": foreign, "GIT_DIR": foreign}
    status, said = make("test", **reader)
    assert status == 0 and "1 passed" in said, said


def test_set_up_is_made_once_whatever_pip_is_set_to(folder):
    """Faults 6 (PIP_USER, pip.conf) and 8 (`make -j2` in a fresh clone)."""
    Path("tests").mkdir()
    for name in ("requirements.txt", "tests/requirements.txt"):
        Path(name).write_text("")
    Path("pip.conf").write_text("[install]\nuser = true\n")
    Path("envs").mkdir()
    Path("envs/mine").write_text("other things")
    reader = {"PIP_USER": "1", "PIP_CONFIG_FILE": str(folder / "pip.conf")}
    _, said = make("-j2", "check", "test", "VENV=envs", **reader)
    assert said.count("setting up envs, once") == 1
    assert (
        "ModuleNotFoundError: No module named 'nbformat'" in said
    )  # the list is empty
    assert Path("envs/.installed").exists() and Path("envs/mine").exists()


def test_missing_packages_and_an_old_python_are_one_sentence(folder):
    Path("requirements.txt").write_text("# a comment\nsys~=3\nnowhere~=1.1\n")
    status, said = make("check")
    command = f"run `{sys.executable} -m pip install nowhere`"
    assert status and f"This Python lacks nowhere: {command}.\n" in said
    Path("tests").mkdir()
    Path("tests/requirements.txt").touch()
    Path("old").write_text("#!/bin/sh\nexit 1\n")
    Path("old").chmod(0o755)
    said = make("check", "PYTHON=./old", "VENV=envs")[1]
    assert "Python 3.10 or newer is needed: make check PYTHON=python3.12" in said

"""`make zip`: the archive it makes, and every reason for which it refuses."""

import os
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import make_zip as packer
import nbformat
import pytest
from build_pdf import source_checksum
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pypdf import PdfWriter

NOTEBOOKS, THEORY = packer.NOTEBOOKS, packer.THEORY
NAMES = sorted((THEORY, *NOTEBOOKS))
EARLIER = b"an earlier archive"


def write_pdf(path: Path, checksum: str) -> None:
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_metadata({"/SourceSHA256": checksum})
    writer.write(path)


def write_notebook(path: Path, *cells, counts=None) -> None:
    """A notebook of two code cells that ran, plus the given cells."""
    code = [
        new_code_cell(
            f"print({n})", id=f"c{n}", outputs=[new_output("stream", text=f"{n}")]
        )
        for n in (1, 2)
    ]
    for cell, count in zip(code, counts or (1, 2), strict=True):
        cell.execution_count = count
    nbformat.write(new_notebook(cells=[*code, *cells]), path)


@pytest.fixture
def folder(tmp_path):
    """A folder from which `make zip` succeeds, with an earlier archive in it."""
    for name in NOTEBOOKS:
        write_notebook(tmp_path / name)
    tex = tmp_path / "hw2_theory.tex"
    tex.write_text("\\documentclass{article}")
    write_pdf(tmp_path / THEORY, source_checksum(tex))
    (tmp_path / "ab1234.zip").write_bytes(EARLIER)
    return tmp_path


@pytest.fixture
def make_zip(monkeypatch, capsys):
    """Runs make_zip.py in a folder → (exit status, what it printed to stderr)."""

    def call(folder, netid="ab1234"):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["make_zip.py", netid])
        status = packer.main()
        return status, capsys.readouterr().err

    return call


def check_refusal(folder, status, message, *words) -> None:
    """One sentence that holds the words, a non-zero exit, the earlier archive as it was."""
    assert status != 0
    assert len(message.strip().splitlines()) == 1, message
    for word in words:
        assert word in message
    assert (folder / "ab1234.zip").read_bytes() == EARLIER
    left = sorted(path.name for path in folder.iterdir())
    assert not [name for name in left if "partial" in name]
    assert [name for name in left if name.endswith(".zip")] == ["ab1234.zip"]


@pytest.fixture
def refuses(make_zip):
    def call(folder, *words, netid="ab1234"):
        check_refusal(folder, *make_zip(folder, netid), *words)

    return call


def test_five_files_flat_and_the_same_bytes_each_time(
    folder, make_zip, tmp_path_factory
):
    assert make_zip(folder)[0] == 0
    first = (folder / "ab1234.zip").read_bytes()
    with zipfile.ZipFile(folder / "ab1234.zip") as archive:
        assert archive.namelist() == NAMES
        for name in NAMES:
            assert archive.read(name) == (folder / name).read_bytes()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "checkout"
    shutil.copytree(folder, elsewhere, copy_function=shutil.copy)  # new times
    for path in elsewhere.iterdir():
        os.utime(path, (0, 0))
    assert make_zip(elsewhere)[0] == 0
    assert (elsewhere / "ab1234.zip").read_bytes() == first


@pytest.mark.parametrize(
    ("netid", "words"),
    [
        ("", "no NetID"),
        ("your_net_id", "placeholder"),
        ("../x", "'../x' is not a NetID"),
        ("AB1234", "lower-case"),
        ("ab1234\n", "not a NetID"),
        ("$(touch x)", "not a NetID"),
    ],
)
def test_bad_netid(refuses, folder, netid, words):
    refuses(folder, words, "NETID=ab1234", netid=netid)


@pytest.mark.parametrize("name", NAMES)
def test_missing_file(refuses, folder, name):
    (folder / name).unlink()
    refuses(folder, f"{name} is missing", "`make ")


def test_stale_pdf(refuses, folder):
    (folder / "hw2_theory.tex").write_text("changed")
    refuses(folder, THEORY, "not built from the present", "make pdf")


def test_pdf_without_checksum(refuses, folder):
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.write(folder / THEORY)
    refuses(folder, THEORY, "make pdf")


@pytest.mark.parametrize("content", [b"", b"not a PDF", b"%PDF-1.5\nbroken"])
def test_unreadable_pdf(refuses, folder, content):
    (folder / THEORY).write_bytes(content)
    refuses(folder, THEORY, "make pdf")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 1}', "\0"])
def test_unreadable_notebook(refuses, folder, content):
    (folder / "hw2_rnn.ipynb").write_text(content)
    refuses(folder, "hw2_rnn.ipynb", "not a valid notebook", "make execute")


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((2, 1), "not run from top to bottom"),
        ((1, 3), "not run from top to bottom"),
        ((5, 6), "not run from top to bottom"),
        ((1, None), "code cell 2"),
    ],
)
def test_not_run_in_one_go(refuses, folder, counts, words):
    write_notebook(folder / "hw2_moe.ipynb", counts=counts)
    refuses(folder, "hw2_moe.ipynb", words, "make execute")


def test_error_output(refuses, folder):
    error = new_output("error", ename="ZeroDivisionError", evalue="", traceback=["1/0"])
    cell = new_code_cell("1/0", execution_count=3, outputs=[error])
    write_notebook(folder / "hw2_cnn.ipynb", cell)
    refuses(folder, "hw2_cnn.ipynb", "ZeroDivisionError in code cell 3", "make execute")


@pytest.mark.parametrize(
    "cell",
    [new_markdown_cell("TODO: say why"), new_code_cell("# TODO", execution_count=3)],
)
def test_todo_left(refuses, folder, cell):
    write_notebook(folder / "hw2_cnn.ipynb", cell)
    refuses(folder, "hw2_cnn.ipynb", "TODO in cell 3", "finish it")


@pytest.mark.parametrize("rich", [True, False])
def test_stand_in_data(refuses, folder, rich):
    text = "STAND-IN DATA: not the assignment's images"
    output = (
        new_output("display_data", data={"text/html": text})
        if rich
        else new_output("stream", text=text)
    )
    cell = new_code_cell("load()", execution_count=3, outputs=[output])
    write_notebook(folder / "hw2_cnn.ipynb", cell)
    refuses(folder, "hw2_cnn.ipynb", "stand-in data", "make execute")


def test_several_faults_are_all_named(make_zip, folder):
    (folder / THEORY).unlink()
    (folder / "hw2_moe.ipynb").unlink()
    status, message = make_zip(folder)
    assert status != 0
    assert len(message.strip().splitlines()) == 2


def test_disk_that_cannot_be_written(folder):
    def full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = subprocess.run(
        [sys.executable, ROOT / "tools/make_zip.py", "ab1234"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=full_disk,
    )
    words = "ab1234.zip cannot be written"
    check_refusal(folder, done.returncode, done.stderr, words)


def test_make_passes_the_netid_on_untouched(folder):
    """The Makefile hands over what was typed: nothing in it is run by a shell."""
    command = [
        "make",
        "-f",
        ROOT / "Makefile",
        "zip",
        "VENV=",
        f"PYTHON={sys.executable}",
    ]
    (folder / "tools").symlink_to(ROOT / "tools")
    for netid, status in (("NETID=$$(touch x)", 2), ("NETID=", 2), ("NETID=cd5678", 0)):
        done = subprocess.run(
            [*command, netid], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
    assert not (folder / "x").exists()
    assert (folder / "cd5678.zip").is_file()

"""tools/submit.py: the archive, every refusal, and the student's own path."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import submit
from conftest import PLOT, ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output

NAMES = sorted((submit.PDF, *submit.NOTEBOOKS))
MOE = Path("hw2_moe.ipynb")


def cell(count, source, *outputs):
    return new_code_cell(source, execution_count=count, outputs=[*outputs])


def text(printed):
    return new_output("stream", text=printed)


def picture(png):
    return new_output("display_data", {"image/png": png})


@pytest.fixture(autouse=True)
def complete(folder, monkeypatch):
    """Five files as run.py leaves them (with words like TODO), and a zip."""
    for name in submit.NOTEBOOKS:
        printing = cell(1, f"todo = TODO_X = print() # todo {name}", text("1\n2\n"))
        notebook = new_notebook(cells=[printing, cell(2, PLOT, picture("aGVsbG8="))])
        notebook.metadata["run"] = submit.stamp(notebook)
        nbformat.write(notebook, name)
    Path(submit.TEX).write_text("the paper")
    Path(submit.PDF).write_text(hashlib.md5(b"the paper").hexdigest().upper())
    Path("ab1234.zip").write_bytes(b"earlier")
    monkeypatch.setattr(sys, "argv", ["submit.py"])


def zips(*words, netid="ab1234"):
    """Packs → the archive; where there are words, it must refuse with these."""
    sys.argv[1:] = [netid]
    said = submit.main()
    assert bool(said) == bool(words) and all(word in said for word in words), said
    archive = Path("ab1234.zip").read_bytes()
    assert (archive == b"earlier") == bool(words)
    assert [name for name in os.listdir() if "zip" in name] == ["ab1234.zip"]
    Path("ab1234.zip").write_bytes(b"earlier")
    return archive


def edit(change):
    notebook = json.loads(MOE.read_text())
    change(notebook["cells"])
    MOE.write_text(json.dumps(notebook))


def test_five_files_flat_and_the_same_bytes_each_time():
    first = zips()
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == NAMES
        for name in NAMES:
            assert archive.read(name) == Path(name).read_bytes()
            os.utime(name, (0, 0))
            Path(name).chmod(0o600)
    assert zips() == first
    command = [sys.executable, "-S", ROOT / "tools/submit.py", "ab1234"]
    subprocess.run(command, check=True)  # finds no packages
    assert Path("ab1234.zip").read_bytes() == first


@pytest.mark.parametrize("netid", ["", "your_net_id", "../x1", "AB1234", "ab1234 x"])
def test_bad_netid(netid):
    zips(f"'{netid}' is no NetID: run `make zip NETID=ab1234` with yours", netid=netid)


@pytest.mark.parametrize("name", [*NAMES, submit.TEX])
def test_missing_or_unreadable_file(name):
    Path(name).unlink()
    cure = "run `make pdf`" if name == submit.PDF else f"or `git checkout {name}`"
    zips(f"{name} cannot be read", "No such file", cure)
    Path(name).mkdir()
    zips(f"{name} cannot be read", "Is a directory", cure)


def test_files_that_do_not_belong_together():
    shutil.copy(MOE, "hw2_rnn.ipynb")
    zips("hw2_rnn.ipynb has the same code as hw2_moe.ipynb: mend it, or `git")
    Path(submit.TEX).write_text("the paper\n<<<<<<< HEAD")
    zips("hw2_theory.pdf was not built from the present hw2_theory.tex: run `make pdf`")
    zips("hw2_theory.tex is unfinished (`<<<<<<< HEAD`)")
    Path(submit.PDF).write_text("")
    zips("hw2_theory.pdf was not built from the present hw2_theory.tex: run `make pdf`")
    os.chdir("build")
    assert "build: change to the project's folder." in submit.main()


HEAD = b'{"nbformat": 4, "metadata": {}, "cells": ['
HALF = rb'{"cell_type": "markdown", "metadata": {}, "source": "\ud83d"}]}'
UNREADABLE = [b"", b"[]", b"[" * 9999, b'{"nbformat": 3}', HEAD + b'"x"]}', HEAD + HALF]
UNREADABLE += [b"\xef\xbb\xbf" + HEAD + b"]}", (HEAD + b"]}").decode().encode("utf-16")]
UNREADABLE += [HEAD + b'], "x": NaN}', HEAD + b"]}\xff"]
UNREADABLE += [HEAD.replace(b"{}", b'{"run": {"pictures": "1"}}') + b"]}"]


@pytest.mark.parametrize("content", UNREADABLE)
def test_what_jupyter_cannot_open_is_not_packed(content):
    """Byte-order marks, UTF-16, NaN, half and broken characters among them."""
    MOE.write_bytes(content)
    zips("hw2_moe.ipynb cannot be read (no notebook", "`git checkout hw2_moe.ipynb`")


def add(source, *outputs):
    return lambda cells: cells.append(cell(3, source, *outputs))


def change(**changes):
    return lambda cells: cells[1].update(changes)


ERROR = new_output("error", ename="KeyError", evalue="1", traceback=["KeyError: 1"])
BARE = new_output("error", ename="KeyError", evalue="1", traceback=[])
FAULTS = {
    "was not run from top to bottom in a fresh kernel": change(execution_count=4),
    "has a cell that was not run, or lost its count": change(execution_count=None),
    "holds an error below `1 / 0`": add("\n1 / 0\n", ERROR),
    "holds an error below `1 // 0`": add("1 // 0", BARE),
    "holds no code": lambda cells: cells.clear(),
    "is unfinished (`# TODO: why`)": add("x = 1\n# TODO: why"),
    "is unfinished (`# FIXME`)": add("# FIXME"),
    "was run on stand-in data": add("read()", text("*** STAND-IN DATA ***\n")),
    "has lost figures": change(outputs=[]),
    "has lost figures: ": change(source=f"{PLOT} # edited", outputs=[]),
}


@pytest.mark.parametrize("told", FAULTS)
def test_notebook_that_is_not_fit(told):
    edit(FAULTS[told])
    again = "*Restart and Run All*, save; or `make execute NOTEBOOKS=hw2_moe.ipynb`"
    zips(f"hw2_moe.ipynb {told}", again)


def colab(cells):
    for one in cells:
        del one["id"]
        one["metadata"] = {"id": "qttJEENEEjx5", "outputId": "349f62e9"}
    cells[0]["outputs"] = [text("1\n"), text("2\n")]


@pytest.mark.parametrize("front_end", [lambda cells: None, colab])
def test_edited_code_is_refused_until_it_was_run_again(front_end):
    edit(front_end)
    zips()
    edit(change(source=[f"{PLOT}\n", "# better"]))
    zips("hw2_moe.ipynb was edited and not run again")
    edit(change(outputs=[picture("Zm9v")]))
    zips()


@pytest.mark.parametrize("name", ["hw2_moe (1).ipynb", "Copy of hw2_moe.ipynb"])
def test_newer_file_beside_is_named(name):
    Path(name).touch()
    os.utime(name, (1, 1))
    zips()
    os.utime(MOE, (0, 0))
    zips(f"hw2_moe.ipynb is older than {name}: rename or remove that")

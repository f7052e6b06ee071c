"""tools/submit.py: the archive, every refusal, and the student's own path."""

import hashlib
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
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

EARLIER = b"an earlier archive"
NAMES = sorted((submit.PDF, *submit.NOTEBOOKS))


def notebook(name="x"):
    """A notebook as run.py leaves it: text, a picture, a stamp."""
    text = new_output("stream", text="1\n2\n")
    picture = new_output("display_data", {"image/png": "aGVsbG8=\n"})
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("print(1, 2)", execution_count=1, outputs=[text]),
        new_code_cell(f"{PLOT}  # {name}", execution_count=2, outputs=[picture]),
    ]
    made = new_notebook(cells=cells)
    made.metadata["run"] = submit.stamp(made)
    return made


@pytest.fixture(autouse=True)
def complete(folder):
    """The current folder: five files that can be packed, and an earlier archive."""
    for name in submit.NOTEBOOKS:
        nbformat.write(notebook(name), name)
    Path(submit.TEX).write_text("the paper")
    stamp = hashlib.md5(b"the paper").hexdigest().upper()
    Path(submit.PDF).write_text(f"/SourceMD5 ({stamp})")
    Path("ab1234.zip").write_bytes(EARLIER)
    return folder


def zips(*words, netid="ab1234"):
    """Packs; where there are words: a refusal that holds them, and all else as it was."""
    command = [sys.executable, "-S", ROOT / "tools/submit.py", netid]  # no packages
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert bool(done.returncode) == bool(words), done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert (Path("ab1234.zip").read_bytes() == EARLIER) == bool(words)
    assert [name for name in os.listdir() if "zip" in name] == ["ab1234.zip"]


def edit(change, name="hw2_moe.ipynb"):
    made = json.loads(Path(name).read_text())
    change(made)
    Path(name).write_text(json.dumps(made))


def test_five_files_flat_and_the_same_bytes_each_time():
    zips()
    first = Path("ab1234.zip").read_bytes()
    with zipfile.ZipFile("ab1234.zip") as archive:
        assert archive.namelist() == NAMES
        for name in NAMES:
            assert archive.read(name) == Path(name).read_bytes()
            os.utime(name, (0, 0))
            Path(name).chmod(0o600)
    zips()
    assert Path("ab1234.zip").read_bytes() == first


@pytest.mark.parametrize("netid", ["", "your_net_id", "../x1", "AB1234", "ab1234 x"])
def test_bad_netid(netid):
    zips(f"'{netid}' is no NetID: run `make zip NETID=ab1234` with yours", netid=netid)


@pytest.mark.parametrize("name", [*NAMES, submit.TEX])
def test_missing_or_unreadable_file(name):
    Path(name).unlink()
    cure = "run `make pdf`" if name == submit.PDF else f"run `git checkout {name}`"
    zips(f"{name} cannot be read", "No such file", cure)
    Path(name).mkdir()
    zips(f"{name} cannot be read", "Is a directory", cure)


def test_paper_that_is_stale_or_unfinished():
    Path(submit.TEX).write_text("the paper\n% TODO: prove it")
    zips("hw2_theory.pdf was not built from the present hw2_theory.tex: run `make pdf`")
    zips("hw2_theory.tex is unfinished (`% TODO: prove it`)")


HEAD = '{"nbformat": 4, "metadata": {}, "cells": '
HALF = HEAD + r'[{"cell_type": "markdown", "metadata": {}, "source": "\ud83d"}]}'
BROKEN = [b"", b"[]", b"[" * 9999, b'{"nbformat": 3}', HEAD.encode() + b'["x"]}']
BROKEN += [b"\xef\xbb\xbf" + HEAD.encode() + b"[]}", (HEAD + "[]}").encode("utf-16")]
BROKEN += [HALF.encode(), HEAD.encode() + b'[], "x": NaN}', HEAD.encode() + b"[]}\xff"]


@pytest.mark.parametrize("content", BROKEN)
def test_what_jupyter_cannot_open_is_not_packed(content):
    """Fault 7: byte-order marks, UTF-16, NaN, half and broken characters among them."""
    Path("hw2_rnn.ipynb").write_bytes(content)
    zips(
        "hw2_rnn.ipynb cannot be read (no notebook for Jupyter", "`git checkout hw2_rnn"
    )


def add(source, output=None, count=3):
    outputs = [output] if output else []
    cell = new_code_cell(source, execution_count=count, outputs=outputs)
    return lambda made: made["cells"].append(cell)


def counts(*numbers):
    def change(made):
        for cell, number in zip(made["cells"][1:], numbers, strict=True):
            cell["execution_count"] = number

    return change


def lose_pictures(made):
    made["cells"][2]["outputs"] = [new_output("stream", text="<Figure size 640x480>")]


ERROR = new_output("error", ename="KeyError", evalue="1", traceback=["KeyError: 1"])
DRAWN = new_output("stream", text="*** STAND-IN DATA ***\n")
FAULTS = {
    "run twice": (counts(3, 4), "was not run from top to bottom in a fresh kernel"),
    "not run": (
        counts(1, None),
        "has a cell that was not run, or lost its count (`imp",
    ),
    "error": (add("\n1 / 0\n", ERROR), "holds an error below `1 / 0`"),
    "TODO": (add("x = 1\n# TODO: why"), "is unfinished (`# TODO: why`)"),
    "FIXME": (add("# FIXME"), "is unfinished (`# FIXME`)"),
    "stand-in": (add("read()", DRAWN), "was run on stand-in data"),
    "no pictures": (lose_pictures, "has lost figures"),
}


@pytest.mark.parametrize(("change", "told"), FAULTS.values(), ids=FAULTS)
def test_notebook_that_is_not_fit(change, told):
    edit(change)
    again = "*Restart and Run All*, save; or `make execute NOTEBOOKS=hw2_moe.ipynb`"
    zips(f"hw2_moe.ipynb {told}", again)


def test_lost_pictures_are_missed_after_an_edit_too():
    """Fault 2: with MPLBACKEND=Agg a front end stores none."""
    edit(lambda made: made["cells"][2].update(source=f"{PLOT}  # edited", outputs=[]))
    zips("hw2_moe.ipynb has lost figures")


@pytest.mark.parametrize("source", ["# todo está aquí", "todo = 1", "TODO_LIST = []"])
def test_words_that_only_look_unfinished(source):
    """Fault 8: Spanish `todo`, and variables of that name."""
    edit(add(source))
    zips()


def colab(made):
    made["nbformat_minor"] = 0
    made["metadata"] |= {"colab": {"provenance": []}, "accelerator": "GPU"}
    for cell in made["cells"]:
        del cell["id"]
        cell["metadata"] = {"id": "qttJEENEEjx5", "outputId": "349f62e9"}
    made["cells"][1]["outputs"] = [new_output("stream", text=t) for t in ("1\n", "2\n")]


@pytest.mark.parametrize("front_end", [lambda made: None, colab])
def test_edited_code_is_refused_until_it_was_run_again(front_end):
    edit(front_end)
    zips()
    Path("ab1234.zip").write_bytes(EARLIER)
    edit(lambda made: made["cells"][2].update(source=[f"{PLOT}\n", "# better"]))
    zips("hw2_moe.ipynb was edited and not run again")
    other = new_output("display_data", {"image/png": "Zm9v"})
    edit(lambda made: made["cells"][2].update(outputs=[other]))
    zips()


def test_notebook_copied_over_another():
    shutil.copy("hw2_moe.ipynb", "hw2_rnn.ipynb")
    zips("hw2_rnn.ipynb has the same code as hw2_moe.ipynb: run `git checkout hw2_rnn")


@pytest.mark.parametrize("copy_", ["hw2_moe (1).ipynb", "Copy of hw2_moe.ipynb"])
def test_newer_file_beside_is_named(copy_):
    """Fault 5: a browser saves a second download beside the first."""
    Path(copy_).write_text("older")
    os.utime(copy_, (0, 0))
    zips()
    Path("ab1234.zip").write_bytes(EARLIER)
    os.utime("hw2_moe.ipynb", (1, 1))
    os.utime(copy_, (2, 2))
    zips(f"hw2_moe.ipynb is older than {copy_}: rename or remove that")

"""`make zip`: the archive it makes, and every reason for which it refuses."""

import copy
import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import make_zip
import nbformat
import notebooks
import pytest
from build_pdf import source_checksum
from conftest import MEASURE, ROOT, TABLE
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

THEORY, TEX = "hw2_theory.pdf", "hw2_theory.tex"
NAMES = sorted((THEORY, *notebooks.NOTEBOOKS))
EARLIER = b"an earlier archive"
ANSWER = rb"/Type /Page (1.1\(a\).2)"


def write_paper(source="\\question{1.1(a)}{Why?}\n", content=ANSWER):
    """A paper with one question, and a PDF that says it was built from it."""
    Path(TEX).write_text(source)
    checksum = source_checksum(Path(TEX)).encode()
    Path(THEORY).write_bytes(b"/SourceSHA256 (%s)\n%s" % (checksum, content))


def show(kind, value):
    return new_output("display_data", {kind: value})


def notebook(name="x"):
    """A notebook as the runner leaves it: text, a picture, a closing table, a stamp."""
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("print(1, 2)", outputs=[new_output("stream", text="1\n2\n")]),
        new_code_cell(f"plot({name!r})", outputs=[show("image/png", "by the runner")]),
        new_code_cell("show_table()", outputs=[show(notebooks.RESULTS, TABLE)]),
    ]
    counts(1, 2, 3)(made := new_notebook(cells=cells))
    made.metadata["run"] = notebooks.checksums(made)
    return made


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder: `make zip` succeeds there, and an earlier archive is in it."""
    monkeypatch.chdir(tmp_path)
    for name in notebooks.NOTEBOOKS:
        nbformat.write(notebook(name), name)
    write_paper()
    Path("ab1234.zip").write_bytes(EARLIER)
    return tmp_path


def check(status, message, *words):
    """Where there are words: a refusal of one sentence, all else as it was."""
    assert bool(status) == bool(words), message
    assert len(message.splitlines()) == bool(words), message
    assert all(word in message for word in words), message
    assert (Path("ab1234.zip").read_bytes() == EARLIER) == bool(words)
    assert [name for name in os.listdir() if "zip" in name] == ["ab1234.zip"]


@pytest.fixture
def zips(monkeypatch, capsys):
    def call(*words, netid="ab1234"):
        monkeypatch.setattr(sys, "argv", ["make_zip.py", netid])
        check(make_zip.main(), capsys.readouterr().err, *words)

    return call


def test_five_files_flat_and_the_same_bytes_each_time(zips):
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


@pytest.mark.parametrize("netid", ["", "your_net_id", "../x", "AB1234", "ab1234\n"])
def test_bad_netid(zips, netid):
    cure = "run `make zip NETID=your_net_id`, lower-case letters and then digits"
    zips(repr(netid)[1:-1], cure, netid=netid)


@pytest.mark.parametrize("name", [*NAMES, TEX])
def test_missing_or_unreadable_file(zips, name):
    Path(name).unlink()
    cure = "`make pdf`" if name == THEORY else f"restore it (`git checkout {name}`)"
    zips(f"{name} ", cure)
    Path(name).mkdir()
    zips(f"{name} cannot be read", cure)


def test_pdf_of_another_source_or_without_answers(zips):
    for content in (b"", b"no PDF", b"/SourceSHA256 (abc)"):
        Path(THEORY).write_bytes(content)
        zips(THEORY, "not built from the present hw2_theory.tex: run `make pdf`")
    for content in (b"", b"/Type /Page", ANSWER.replace(b"Page", b"Pages")):
        write_paper(content=content)
        zips(THEORY, "lacks pages or the answer to a question: run `make pdf`")
    write_paper("\\question{1.1(a)}{Why?}\n% TODO: say\n")
    zips("hw2_theory.tex still holds a TODO in line 2: finish it, `make pdf`")


BROKEN = "", "{", "[]", "\0", "[" * 9999, '{"cells": 1}', '{"nbformat": 3}'
HEAD = '{"nbformat": 4, "metadata": {}, "cells": '


@pytest.mark.parametrize("content", [*BROKEN, HEAD + '["x"]}', HEAD + "[{}]}"])
def test_unreadable_notebook(zips, content):
    Path("hw2_rnn.ipynb").write_text(content)
    zips("hw2_rnn.ipynb is not a valid notebook", "`git checkout hw2_rnn.ipynb`")


def counts(*numbers):
    def edit(made):
        for one, number in zip(made["cells"][1:], numbers, strict=True):
            one["execution_count"] = number

    return edit


def add(source, *outputs):
    outputs = [new_output(kind, ename="KeyError") for kind in outputs]
    added = new_code_cell(source, execution_count=4, outputs=outputs)
    return lambda made: made["cells"].append(added)


def results(table):
    last = show(notebooks.RESULTS, table)
    return lambda made: made["cells"][3].update(outputs=[last])


def row(**changes):
    return results(TABLE | {"measures": [TABLE["measures"][0] | changes]})


UNREAD = "a closing table whose rows cannot be read"
FAULTS = {
    "run twice": (counts(4, 5, 6), "not run from top to bottom in a fresh kernel"),
    "not run": (counts(1, 2, None), "has a cell that was never run (code cell 3)"),
    "Colab, the next day": (counts(None, None, None), "has lost its counts"),
    "error": (add("1/0", "error"), "ends in KeyError in code cell 4: mend it"),
    "TODO": (add("# TODO: why"), "holds a TODO in cell 5: finish it"),
    "todo": (add("# todo"), "holds a todo in cell 5"),
    "TODOs": (add("# some TODOs"), "holds a TODOs in cell 5"),
    "FIXME": (add("# FIXME"), "holds a FIXME in cell 5"),
    "stand-in": (row(verdict="stand-in"), "stand-in data: find pictures"),
    "FAIL": (row(verdict="FAIL"), "misses what is asked of accuracy: improve it"),
    "outputs gone": (lambda made: made["cells"][3].update(outputs=[]), "no closing"),
    "cell gone": (lambda made: made["cells"].pop(), "shows no closing table: restore"),
    "no measure": (results(TABLE | {"measures": []}), UNREAD),
    "nothing": (results({}), UNREAD),
    "text": (results("b  > 1  > 1  0  FAIL  (slow)"), UNREAD),
    "a column short": (results(TABLE | {"measures": [MEASURE]}), UNREAD),
    "a column more": (row(note="slow"), UNREAD),
    "a number": (row(got=0.97), UNREAD),
    "empty": (row(got=""), UNREAD),
    "unknown verdict": (row(verdict="FAIL (slow)"), UNREAD),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_notebook_that_is_not_fit(zips, fault):
    made, (edit, words) = notebook(), FAULTS[fault]
    edit(made)
    made["metadata"] = {}  # the stamp is another test's matter
    Path("hw2_cnn.ipynb").write_text(json.dumps(made))
    cure = (
        "*Restart and Run All* and save it, or `make execute NOTEBOOKS=hw2_cnn.ipynb`"
    )
    zips("hw2_cnn.ipynb ", words, cure)


def jupyterlab(made):
    """What JupyterLab may change when it saves: metadata, ends of lines, whole texts."""
    made["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    for one in made["cells"]:
        one["metadata"] = {"trusted": True, "execution": {"iopub.status.busy": "now"}}
        one["source"] += "\n"
    made["cells"][2]["outputs"][0]["data"]["image/png"] += "\n"


def colab(made):
    """As Colab lays a file out: cells without ids, its own metadata, texts in pieces."""
    made["nbformat_minor"] = 0
    made["metadata"]["colab"] = {"provenance": [], "gpuType": "T4"}
    for one in made["cells"]:
        del one["id"]
        one["metadata"] = {"id": "qttJEENEEjx5", "outputId": "349f62e9"}
        one["source"] = one["source"].splitlines(keepends=True)
    made["cells"][1]["outputs"] = [new_output("stream", text=t) for t in ("1\n", "2\n")]


@pytest.mark.parametrize("front_end", [lambda made: None, jupyterlab, colab])
def test_edited_code_is_refused_until_it_was_run_again(zips, front_end):
    def save(*words):
        front_end(made := copy.deepcopy(edited))
        Path("hw2_moe.ipynb").write_text(json.dumps(made))
        zips(*words)
        Path("ab1234.zip").write_bytes(EARLIER)

    edited = notebook()
    edited["cells"][0]["source"] = "# prose is no code"
    save()
    edited["cells"][2]["source"] = "plot('x',\n    'better')"
    save("hw2_moe.ipynb has code that was edited and not run again")
    edited["cells"][2]["outputs"] = [show("image/png", "a picture by a front end")]
    save()


def test_notebook_copied_over_another(zips):
    shutil.copy("hw2_moe.ipynb", "hw2_rnn.ipynb")
    zips("hw2_rnn.ipynb has the same code as hw2_moe.ipynb: restore")


def plain_python(**options):
    """make_zip.py as a process of its own, which finds no installed package."""
    command = [sys.executable, "-S", ROOT / "tools/make_zip.py", "ab1234"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_four_at_once_without_any_package_leave_what_others_write_alone():
    other = Path(".ab1234.zip.partial")
    other.write_text("half an archive")
    runs = [plain_python() for _ in range(4)]
    said = [process.communicate()[1] for process in runs]
    assert other.read_text() == "half an archive"
    other.unlink()
    for process, message in zip(runs, said, strict=True):
        check(process.returncode, message)
    assert zipfile.ZipFile("ab1234.zip").testzip() is None


def test_disk_that_cannot_be_written():
    small = resource.RLIMIT_FSIZE, (100, 100)
    process = plain_python(preexec_fn=lambda: resource.setrlimit(*small))
    _, message = process.communicate()
    check(process.returncode, message, "ab1234.zip cannot be written")


def git(command):
    who = "git -c user.name=a -c user.email=b"
    return subprocess.check_output([*who.split(), *command.split()], text=True)


def test_git_ignores_what_a_killed_run_leaves_and_turns_no_ends_of_lines(folder):
    for name in (".gitattributes", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    Path("hw2_rnn.ipynb").write_text(nbformat.writes(notebook()))
    for command in ("init -q", "add .", "commit -qm all"):
        git(command)
    git("clone -qc core.autocrlf=true . build/as_on_windows")
    for name in NAMES:
        assert Path("build/as_on_windows", name).read_bytes() == Path(name).read_bytes()
    Path(".ab1234.zip.4711.partial").touch()
    assert git("status --short") == ""

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
import notebooks
import pytest
from build_pdf import source_checksum
from conftest import CLAIM, MEASURE, ROOT, TABLE

THEORY, TEX = "hw2_theory.pdf", "hw2_theory.tex"
NAMES = sorted((THEORY, *notebooks.NOTEBOOKS))
EARLIER = b"an earlier archive"


def write_pdf(content=rb"/Type /Page (1.1\(a\).2)"):
    checksum = source_checksum(Path(TEX)).encode()
    Path(THEORY).write_bytes(b"/SourceSHA256 (%s)\n%s" % (checksum, content))


def cell(source, *outputs, count=None, kind="code"):
    code = (
        {"execution_count": count, "outputs": list(outputs)} if kind == "code" else {}
    )
    return {"cell_type": kind, "id": "c", "metadata": {}, "source": [source]} | code


def show(**data):
    data = {kind.replace("_", "/"): value for kind, value in data.items()}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def closing(table):
    output = show(text_plain=["a table"])
    output["data"][notebooks.RESULTS] = table
    return output


def stream(*text):
    return {"output_type": "stream", "name": "stdout", "text": list(text)}


def notebook(name="x"):
    """A notebook as the runner leaves it: text, a picture, a closing table, a stamp."""
    cells = [
        cell("# Title", kind="markdown"),
        cell("print(1, 2)", stream("1\n", "2\n"), count=1),
        cell(f"plot({name!r})", show(image_png="a picture by the runner"), count=2),
        cell("show_closing_table()", closing(TABLE), count=3),
    ]
    made = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    made["metadata"]["run"] = notebooks.checksums(notebooks.whole(copy.deepcopy(made)))
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: `make zip` succeeds there, and an earlier archive is in it."""
    monkeypatch.chdir(tmp_path)
    for name in notebooks.NOTEBOOKS:
        Path(name).write_text(json.dumps(notebook(name)))
    Path(TEX).write_text("\\question{1.1(a)}{Why?}\n")
    write_pdf()
    Path("ab1234.zip").write_bytes(EARLIER)
    return tmp_path


def check(status, message, *words):
    """Where there are words: a refusal of one sentence, all else as it was."""
    assert bool(status) == bool(words), message
    assert len(message.splitlines()) == bool(words), message
    assert all(word in message for word in words), message
    assert (Path("ab1234.zip").read_bytes() == EARLIER) == bool(words)
    left = [name for name in os.listdir() if "zip" in name]
    assert left == ["ab1234.zip"]


@pytest.fixture
def zips(folder, monkeypatch, capsys):
    def call(*words, netid="ab1234"):
        monkeypatch.setattr(sys, "argv", ["make_zip.py", netid])
        check(make_zip.main(), capsys.readouterr().err, *words)

    return call


def test_five_files_flat_and_the_same_bytes_each_time(zips, folder):
    zips()
    first = Path("ab1234.zip").read_bytes()
    with zipfile.ZipFile("ab1234.zip") as archive:
        assert archive.namelist() == NAMES
        for name in NAMES:
            assert archive.read(name) == Path(name).read_bytes()
    for name in NAMES:
        os.utime(name, (0, 0))
        Path(name).chmod(0o600)
    zips()
    assert Path("ab1234.zip").read_bytes() == first


@pytest.mark.parametrize("netid", ["", "your_net_id", "../x", "AB1234", "ab1234\n"])
def test_bad_netid(zips, netid):
    zips("NETID", "your own, lower-case letters and then digits", netid=netid)


@pytest.mark.parametrize("name", [*NAMES, TEX])
def test_missing_or_unreadable_file(zips, folder, name):
    Path(name).unlink()
    cure = "`make pdf`" if name == THEORY else f"restore it (`git checkout {name}`)"
    zips(f"{name} ", cure)
    Path(name).mkdir()
    zips(f"{name} cannot be read", cure)


@pytest.mark.parametrize("content", [b"", b"no PDF", b"/SourceSHA256 (abc)"])
def test_pdf_of_another_source(zips, folder, content):
    Path(THEORY).write_bytes(content)
    zips(THEORY, "was not built from the present hw2_theory.tex: run `make pdf`")


@pytest.mark.parametrize("content", [b"", b"/Type /Page", rb"/Pages (1.1\(a\).2)"])
def test_pdf_without_pages_or_questions(zips, folder, content):
    write_pdf(content)
    zips(THEORY, "lacks pages or the answer to a question: run `make pdf`")


def test_unfinished_paper(zips, folder):
    Path(TEX).write_text("\\question{1.1(a)}{Why?}\n% TODO: say\n")
    write_pdf()
    zips("hw2_theory.tex still holds a TODO in line 2: finish it, `make pdf`")


BROKEN = ["", "{", "[]", "\0", "[" * 9999, '{"cells": 1}', '{"nbformat": 3}']
HEAD = '{"nbformat": 4, "metadata": {}, "cells": '


@pytest.mark.parametrize(
    "content", [*BROKEN, HEAD + '["x"]}', HEAD + '[{"cell_type": "code"}]}']
)
def test_unreadable_notebook(zips, folder, content):
    Path("hw2_rnn.ipynb").write_text(content)
    zips("hw2_rnn.ipynb is not a valid notebook", "`git checkout hw2_rnn.ipynb`")


def counts(*numbers):
    def edit(made):
        for one, number in zip(made["cells"][1:], numbers, strict=True):
            one["execution_count"] = number

    return edit


def add(*args, **options):
    return lambda made: made["cells"].append(cell(*args, **options))


def results(table):
    return lambda made: made["cells"][3].update(outputs=[closing(table)])


def row(**changes):
    return results(TABLE | {"measures": [TABLE["measures"][0] | changes]})


ERROR = {"output_type": "error", "ename": "KeyError", "traceback": []}
NEITHER, UNLIKE = (
    "without measures and claims",
    "row in its closing table unlike others",
)
FAULTS = {
    "run twice": (counts(4, 5, 6), "not run from top to bottom in a fresh kernel"),
    "out of order": (counts(1, 3, 2), "not run from top to bottom"),
    "not run": (counts(1, 2, None), "has a cell that was never run (code cell 3)"),
    "Colab, the next day": (counts(None, None, None), "has lost its counts"),
    "error": (add("1/0", ERROR, count=4), "ends in KeyError in code cell 4: mend it"),
    "TODO": (add("TODO: why", kind="markdown"), "holds a TODO in cell 5: finish it"),
    "todo": (add("# todo", count=4), "holds a todo in cell 5"),
    "TODOs": (add("some TODOs", kind="markdown"), "holds a TODOs in cell 5"),
    "FIXME": (add("# FIXME", count=4), "holds a FIXME in cell 5"),
    "stand-in": (row(verdict="stand-in"), "stand-in data: find the pictures"),
    "FAIL": (row(verdict="FAIL"), "misses what the assignment asks (accuracy)"),
    "outputs gone": (lambda made: made["cells"][3].update(outputs=[]), "no closing"),
    "cell gone": (lambda made: made["cells"].pop(), "shows no closing table: restore"),
    "no measure": (results(TABLE | {"measures": []}), NEITHER),
    "nothing": (results({}), NEITHER),
    "no rows": (results({"measures": 1, "claims": 2}), NEITHER),
    "text": (results("b  > 1  > 1  0  FAIL  (slow)"), NEITHER),
    "a column short": (results(TABLE | {"measures": [MEASURE]}), UNLIKE),
    "a column more": (row(note="slow"), UNLIKE),
    "a number": (row(got=0.97), UNLIKE),
    "empty": (row(got=""), UNLIKE),
    "unknown verdict": (row(verdict="FAIL (slow)"), UNLIKE),
    "claim for measure": (results({"measures": [CLAIM], "claims": []}), UNLIKE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_notebook_that_is_not_fit(zips, folder, fault):
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
        one["source"] = "".join(one["source"]) + "\n"
        for output in one.get("outputs", []):
            if "text" in output:
                output["text"] = "".join(output["text"])
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] += "\n"


def colab(made):
    """As Colab lays a file out: cells without ids, its own metadata, streams in pieces."""
    made["nbformat_minor"] = 0
    made["metadata"]["colab"] = {"provenance": [], "gpuType": "T4"}
    for one in made["cells"]:
        del one["id"]
        one["metadata"] = {"id": "qttJEENEEjx5", "outputId": "349f62e9"}
    printed = made["cells"][1]
    printed["outputs"] = [stream(text) for text in printed["outputs"][0]["text"]]


@pytest.mark.parametrize("front_end", [lambda made: None, jupyterlab, colab])
def test_edited_code_is_refused_until_it_was_run_again(zips, folder, front_end):
    made = notebook()
    for source, words in (
        (["# prose is no code"], []),
        (["plot('x', 'better')"], ["has code that was edited and not run again"]),
    ):
        made["cells"][2 if words else 0]["source"] = source
        now = copy.deepcopy(made)
        front_end(now)
        Path("hw2_moe.ipynb").write_text(json.dumps(now))
        zips(*words)
        Path("ab1234.zip").write_bytes(EARLIER)
    now["cells"][2]["outputs"] = [show(image_png=["a picture by a front end\n"])]
    Path("hw2_moe.ipynb").write_text(json.dumps(now))
    zips()


def test_notebook_copied_over_another(zips, folder):
    shutil.copy("hw2_moe.ipynb", "hw2_rnn.ipynb")
    zips("hw2_rnn.ipynb has the same code as hw2_moe.ipynb: restore")


def plain_python(**options):
    """make_zip.py as a process of its own, which finds no installed package."""
    command = [sys.executable, "-S", ROOT / "tools/make_zip.py", "ab1234"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_four_at_once_without_any_package(folder):
    runs = [plain_python() for _ in range(4)]
    said = [process.communicate()[1] for process in runs]
    for process, message in zip(runs, said, strict=True):
        check(process.returncode, message)
    assert zipfile.ZipFile("ab1234.zip").testzip() is None


def test_what_another_run_is_writing_is_left_alone(folder):
    other = Path(".ab1234.zip.partial")
    other.write_text("half an archive")
    make_zip.pack(Path("ab1234.zip"))
    assert other.read_text() == "half an archive"


def test_disk_that_cannot_be_written(folder):
    small = resource.RLIMIT_FSIZE, (100, 100)
    process = plain_python(preexec_fn=lambda: resource.setrlimit(*small))
    _, message = process.communicate()
    check(process.returncode, message, "ab1234.zip cannot be written")


def git(*arguments):
    who = ["-c", "user.name=a", "-c", "user.email=b"]
    return subprocess.check_output(["git", *who, *arguments], text=True)


def test_git_ignores_what_a_killed_run_leaves_and_turns_no_ends_of_lines(folder):
    for name in (".gitattributes", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    Path("hw2_rnn.ipynb").write_text(json.dumps(notebook(), indent=1))
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    git("clone", "-qc", "core.autocrlf=true", ".", "build/as_on_windows")
    for name in NAMES:
        assert Path("build/as_on_windows", name).read_bytes() == Path(name).read_bytes()
    Path(".ab1234.zip.4711.partial").touch()
    assert git("status", "--short") == ""

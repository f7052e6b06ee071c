"""`make zip`: the archive it makes, and every reason for which it refuses."""

import base64
import copy
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile

import make_zip as packer
import notebooks
import pytest
from build_pdf import source_checksum
from conftest import CLAIM, MEASURE, ROOT, TABLE

THEORY = "hw2_theory.pdf"
NAMES = sorted((THEORY, *notebooks.NOTEBOOKS))
EARLIER = b"an earlier archive"
QUESTION = rb"/Type /Page  /Title (1.1\(a\).2)"


def write_pdf(folder, content=QUESTION):
    checksum = source_checksum(folder / "hw2_theory.tex").encode()
    (folder / THEORY).write_bytes(b"/SourceSHA256 (%s)\n%s" % (checksum, content))


def png(by: str) -> str:
    return base64.b64encode(f"a picture by {by}".encode()).decode()


def cell(source, *outputs, count=None, kind="code", **more):
    one = {"cell_type": kind, "id": source[:9], "metadata": {}, "source": [source]}
    code = {"execution_count": count, "outputs": list(outputs)}
    return one | (code if kind == "code" else {}) | more


def show(data):
    return {"output_type": "display_data", "data": data, "metadata": {}}


def stream(*text):
    return {"output_type": "stream", "name": "stdout", "text": list(text)}


def notebook(name="x", table=TABLE):
    """A notebook as the runner leaves it: text, a picture, a closing table, a stamp."""
    data = {"text/plain": ["a table"], notebooks.RESULTS: table}
    cells = [
        cell(f"# Title of {name}", kind="markdown"),
        cell("print(1, 2)", stream("1\n", "2\n"), count=1),
        cell(f"plot({name!r})", show({"image/png": png("the runner")}), count=2),
        cell("show_closing_table()", show(data), count=3),
    ]
    made = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    whole = notebooks.whole(copy.deepcopy(made))
    made["metadata"]["run"] = {
        "seconds": 1,
        "machine": "a machine",
        "code": notebooks.code_checksum(whole),
        "outputs": notebooks.outputs_checksum(whole),
    }
    return made


@pytest.fixture
def folder(tmp_path):
    """A folder from which `make zip` succeeds, with an earlier archive in it."""
    for name in notebooks.NOTEBOOKS:
        (tmp_path / name).write_text(json.dumps(notebook(name)))
    (tmp_path / "hw2_theory.tex").write_text("\\question{1.1(a)}{Why?}\n")
    write_pdf(tmp_path)
    (tmp_path / "ab1234.zip").write_bytes(EARLIER)
    return tmp_path


@pytest.fixture
def make_zip(monkeypatch, capsys):
    """Runs make_zip.py in a folder → (exit status, what it printed to stderr)."""

    def call(folder, netid="ab1234"):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["make_zip.py", netid])
        return packer.main(), capsys.readouterr().err

    return call


@pytest.fixture
def refuses(make_zip):
    """One sentence that holds the words, and the earlier archive as it was."""

    def call(folder, *words, netid="ab1234"):
        status, message = make_zip(folder, netid)
        check_refusal(folder, status, message, *words)

    return call


def check_refusal(folder, status, message, *words):
    assert status != 0
    assert len(message.strip().splitlines()) == 1, message
    for word in words:
        assert word in message
    assert (folder / "ab1234.zip").read_bytes() == EARLIER
    left = [path.name for path in folder.iterdir()]
    assert not [name for name in left if "partial" in name]
    assert [name for name in left if name.endswith(".zip")] == ["ab1234.zip"]


def test_five_files_flat_and_the_same_bytes_each_time(
    folder, make_zip, tmp_path_factory
):
    assert make_zip(folder) == (0, "")
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
    ],
)
def test_bad_netid(refuses, folder, netid, words):
    refuses(folder, words, netid=netid)


@pytest.mark.parametrize("name", [*NAMES, "hw2_theory.tex"])
def test_missing_or_unreadable_file(refuses, folder, name):
    (folder / name).unlink()
    refuses(
        folder, f"{name} is missing: ", "`make pdf`" if name == THEORY else "restore"
    )
    (folder / name).mkdir()
    refuses(folder, f"{name} cannot be read")


@pytest.mark.parametrize(
    "content", [b"", b"not a PDF", b"%PDF-1.5\nbroken", b"/SourceSHA256 (abc)"]
)
def test_pdf_of_another_source(refuses, folder, content):
    (folder / THEORY).write_bytes(content)
    refuses(folder, THEORY, "not built from the present", "make pdf")


@pytest.mark.parametrize("content", [b"", b"/Type /Page", rb"/Pages (1.1\(a\).2)"])
def test_pdf_without_pages_or_questions(refuses, folder, content):
    write_pdf(folder, content)
    refuses(folder, THEORY, "lacks", "make pdf")


def test_unfinished_paper(refuses, folder):
    (folder / "hw2_theory.tex").write_text("\\question{1.1(a)}{Why?}\n% TODO: say\n")
    write_pdf(folder)
    refuses(folder, "hw2_theory.tex still holds a TODO in line 2", "make pdf")


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "\0", "[" * 9999, '{"cells": 1}', '{"nbformat": 3}'),
        '{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code"}]}',
        '{"nbformat": 4, "metadata": {}, "cells": ["x"]}',
    ],
)
def test_unreadable_notebook(refuses, folder, content):
    (folder / "hw2_rnn.ipynb").write_text(content)
    refuses(
        folder, "hw2_rnn.ipynb is not a valid notebook", "git checkout hw2_rnn.ipynb"
    )


def counts(*numbers):
    def edit(made):
        for one, number in zip(made["cells"][1:], numbers, strict=True):
            one["execution_count"] = number

    return edit


def outputs(position, *new):
    return lambda made: made["cells"][position].update(outputs=list(new))


def add(*args, **options):
    return lambda made: made["cells"].append(cell(*args, **options))


def closing(table):
    return outputs(3, show({notebooks.RESULTS: table}))


def rows(**changes):
    return closing({"measures": [TABLE["measures"][0] | changes], "claims": [CLAIM]})


ERROR = {"output_type": "error", "ename": "ZeroDivisionError", "traceback": []}
IS_UNLIKE = "has a row in its closing table unlike others"
FAULTS = {
    "run twice": (counts(4, 5, 6), "not run from top to bottom in a fresh kernel"),
    "out of order": (counts(1, 3, 2), "not run from top to bottom"),
    "not run": (counts(1, 2, None), "never run (code cell 3)"),
    "Colab, the next day": (counts(None, None, None), "lost its counts"),
    "error": (add("1/0", ERROR, count=4), "ends in ZeroDivisionError in code cell 4"),
    "TODO": (add("TODO: why", kind="markdown"), "holds a TODO in cell 5: finish it"),
    "todo": (add("# todo", count=4), "holds a todo in cell 5"),
    "TODOs": (add("some TODOs", kind="markdown"), "holds a TODOs in cell 5"),
    "FIXME": (add("# FIXME", count=4), "holds a FIXME in cell 5"),
    "stand-in": (rows(verdict="stand-in"), "stand-in data"),
    "FAIL": (rows(verdict="FAIL"), "misses what the assignment asks (accuracy)"),
    "all outputs gone": (outputs(3), "no closing table"),
    "last cell gone": (lambda made: made["cells"].pop(), "no closing table"),
    "no measure": (
        closing(TABLE | {"measures": []}),
        "closing table without a measure",
    ),
    "no rows": (closing({}), "closing table without measures and claims"),
    "a list": (closing([]), "closing table without measures and claims"),
    "text": (closing("b  > 1  > 1  0  FAIL  (slow)"), "without measures and claims"),
    "a column short": (closing(TABLE | {"measures": [MEASURE]}), IS_UNLIKE),
    "a column more": (rows(note="slow"), IS_UNLIKE),
    "no text": (rows(got=0.97), IS_UNLIKE),
    "empty": (rows(got=""), IS_UNLIKE),
    "unknown verdict": (rows(verdict="FAIL (slow)"), IS_UNLIKE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_notebook_that_is_not_fit(refuses, folder, fault):
    edit, words = FAULTS[fault]
    made = notebook()
    del made["metadata"]["run"]  # the stamp is another test's matter
    edit(made)
    (folder / "hw2_cnn.ipynb").write_text(json.dumps(made))
    cure = "*Restart and Run All*, save it, or `make execute NOTEBOOKS=hw2_cnn.ipynb`"
    refuses(folder, "hw2_cnn.ipynb", words, cure)


def jupyterlab(made):
    """What JupyterLab may change by saving: metadata, ends of lines, whole texts."""
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
    """As Colab lays a file out: no ids of cells, its own metadata, streams in pieces."""
    made["nbformat_minor"] = 0
    made["metadata"]["colab"] = {"provenance": [], "gpuType": "T4"}
    for one in made["cells"]:
        del one["id"]
        one["metadata"] = {"id": "qttJEENEEjx5", "outputId": "349f62e9"}
        pieces = [
            stream(text) for o in one.get("outputs", []) for text in o.get("text", [])
        ]
        if pieces:
            one["outputs"] = pieces


@pytest.mark.parametrize("front_end", [lambda made: None, jupyterlab, colab])
def test_edited_code_is_refused_until_it_was_run_again(
    make_zip, refuses, folder, front_end
):
    made = notebook()
    made["cells"][2]["source"] = ["plot('x', 'better')"]
    front_end(made)
    (folder / "hw2_moe.ipynb").write_text(json.dumps(made))
    refuses(folder, "hw2_moe.ipynb has code that was edited and not run again")
    made["cells"][2]["outputs"] = [show({"image/png": [png("a front end") + "\n"]})]
    (folder / "hw2_moe.ipynb").write_text(json.dumps(made))
    assert make_zip(folder) == (0, "")


@pytest.mark.parametrize("front_end", [jupyterlab, colab])
def test_saving_or_running_again_without_an_edit_passes(make_zip, folder, front_end):
    made = notebook()
    made["cells"][0]["source"] = ["# Another title"]  # prose is no code
    front_end(made)
    (folder / "hw2_moe.ipynb").write_text(json.dumps(made))
    assert make_zip(folder) == (0, "")


def test_notebook_copied_over_another(refuses, folder):
    shutil.copy(folder / "hw2_moe.ipynb", folder / "hw2_rnn.ipynb")
    refuses(folder, "hw2_rnn.ipynb has the same code as hw2_moe.ipynb: restore")


def test_several_faults_are_all_named(make_zip, folder):
    (folder / THEORY).unlink()
    (folder / "hw2_moe.ipynb").unlink()
    status, message = make_zip(folder)
    assert status != 0
    assert len(message.strip().splitlines()) == 2


def plain_python(folder, netid="ab1234", **options):
    """make_zip.py as a process of its own, which finds no installed package."""
    return subprocess.Popen(
        [sys.executable, "-S", ROOT / "tools/make_zip.py", netid],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_four_at_once_without_any_package(folder):
    runs = [plain_python(folder) for _ in range(4)]
    assert [(process.wait(), process.stderr.read()) for process in runs] == [
        (0, "")
    ] * 4
    assert zipfile.ZipFile(folder / "ab1234.zip").testzip() is None


def test_disk_that_cannot_be_written(folder):
    def full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    process = plain_python(folder, preexec_fn=full_disk)
    message = process.communicate()[1]
    check_refusal(folder, process.returncode, message, "ab1234.zip cannot be written")


def test_what_a_killed_run_leaves_is_ignored_by_git(folder, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    monkeypatch.setattr(packer.notebooks.os, "replace", killed)
    monkeypatch.setattr(packer.notebooks.Path, "unlink", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        packer.pack("ab1234")
    (left,) = [path.name for path in folder.iterdir() if "partial" in path.name]
    rule = (ROOT / ".gitignore").read_text()
    assert re.fullmatch(r"\..*\.partial", left)
    assert ".*.partial" in rule.splitlines()


def test_a_checkout_has_the_same_bytes_whatever_git_is_set_to(folder):
    """As on Windows, where git turns the ends of lines unless .gitattributes forbids it."""

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=b"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True)

    shutil.copy(ROOT / ".gitattributes", folder)
    (folder / "hw2_rnn.ipynb").write_text(json.dumps(notebook(), indent=1))
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    git("clone", "-qc", "core.autocrlf=true", ".", "turned")
    for name in NAMES:
        assert (folder / "turned" / name).read_bytes() == (folder / name).read_bytes()

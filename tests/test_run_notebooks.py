"""`make check` and `make execute`: real kernels on small notebooks."""

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import notebooks
import pytest
import run_notebooks
from conftest import CLAIM, MEASURE, ROOT, TABLE, write
from nbformat import from_dict

SHARED = "import os, pathlib, time\nshared = pathlib.Path('../../..')\n"
MEET = f"""{SHARED}
pathlib.Path("own").touch()
mine = shared / f"{{os.getpid()}}.here"
mine.touch()
end = time.time() + float(os.environ["WAIT"])
while (met := len(list(shared.glob("*.here"))) > 1) is False and time.time() < end:
    time.sleep(0.05)
time.sleep(1)
(shared / f"{{os.getpid()}}.met").write_text(str(met))
assert os.listdir() == ["own"]  # nobody else's folder
mine.unlink()"""
ALONE = f"""{SHARED}
for _ in range(20):
    assert not list(shared.glob("*.here"))
    time.sleep(0.05)"""


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, ROOT / "tools/run_notebooks.py", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, **environment):
    """(exit status, what it printed, its complaints)"""
    process = start(*arguments, **environment)
    printed, said = process.communicate()
    return process.returncode, printed, said


def content():
    return {path.name: path.read_bytes() for path in Path().glob("*.ipynb")}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_goes_on_after_a_failure_and_touches_nothing():
    write("bad.ipynb", "x = 1", "import neighbour")
    Path("neighbour.py").write_text("")  # a notebook is alone in its folder
    write("good.ipynb", "1 + 1", "2 + 2")
    text = Path("good.ipynb").read_text()
    Path("good.ipynb").write_text(text.replace('"c1"', '"c0"'))  # two cells, one id
    before = content()
    status, printed, said = run("bad.ipynb", "good.ipynb")
    assert status == 1
    assert content() == before
    table = printed.split("Results")[1]
    for words in ("bad.ipynb", "failed", "good.ipynb", "passed", "accuracy", "1 of 1"):
        assert table.count(words) == 1
    assert "bad.ipynb, cell 2 (c1):" in said
    assert "ModuleNotFoundError" in said
    for words in ("nbformat", "run_notebooks.py"):  # no warning, no traceback of ours
        assert words not in printed + said


def test_failures_of_any_kind_end_one_notebook_alone(monkeypatch, capsys):
    """The kernel is left out: `run` gives each notebook its closing table, or fails."""
    doubt = CLAIM | {"claim": "pigs fly", "verdict": "does not hold here"}
    tables = {
        "good": TABLE | {"claims": [CLAIM, doubt]},
        "misses": TABLE | {"measures": [MEASURE | {"verdict": "FAIL"}]},
        "rows": TABLE | {"measures": [MEASURE]},
    }

    def fake(notebook, name, *_):
        table = tables[Path(name).stem]  # KeyError for the odd one
        data = {notebooks.RESULTS: table}
        output = {"output_type": "display_data", "data": data, "metadata": {}}
        notebook.cells[0].outputs = [from_dict(output)]
        return ""

    monkeypatch.setattr(run_notebooks, "run", fake)
    for name in [*tables, "odd"]:
        write(f"{name}.ipynb", "1 + 1")
    Path("broken.ipynb").write_text("{")
    names = [f"{name}.ipynb" for name in ("odd", "missing", "broken", *tables)]
    monkeypatch.setattr(sys, "argv", ["run_notebooks.py", *names])
    assert run_notebooks.main() == 1
    printed, said = capsys.readouterr()
    assert printed.count("failed") == 5
    for words in ("1 of 2", "pigs fly", "does not hold here"):
        assert words in printed
    for words in (
        "odd.ipynb: KeyError: 'odd'",
        "missing.ipynb is missing",
        "broken.ipynb is not a valid notebook",
        "misses.ipynb misses what the assignment asks (accuracy)",
        "rows.ipynb has a row in its closing table unlike others",
    ):
        assert words in said


def test_without_names_all_four_are_run_and_one_that_is_missing_fails():
    status, printed, said = run(CATS_AND_DOGS_DIR="")
    assert status == 1
    assert "hw2_cnn.ipynb's pictures: downloaded (69 MB), unless" in printed
    for name in notebooks.NOTEBOOKS:
        assert f"{name} is missing" in said


def test_execute_replaces_only_what_ran_and_was_not_saved_meanwhile():
    write("bad.ipynb", "1 / 0")
    draw = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])\nplt.show()"
    write("good.ipynb", "for i in 1, 2: print(i, flush=True)", draw)
    edit = f"{SHARED}book = shared / 'edited.ipynb'\n"
    edit += "_ = book.write_text(book.read_text().replace('1 + 1', '2 + 2'))"
    write("edited.ipynb", edit, "1 + 1")
    before = content()
    status, _, said = run("--in-place", "bad.ipynb", "edited.ipynb", "good.ipynb")
    after = content()
    assert status == 1
    assert after["bad.ipynb"] == before["bad.ipynb"]
    assert after["edited.ipynb"] == before["edited.ipynb"].replace(b"1 + 1", b"2 + 2")
    assert "edited.ipynb was saved while it ran: its run is in build/" in said
    assert "1 + 1" in Path("build/edited.ipynb").read_text()
    notebook = notebooks.read(Path("good.ipynb"))
    assert notebooks.faults(notebook) == []
    printed, drawn, _ = [cell["outputs"] for cell in notebook["cells"]]
    assert [output["text"] for output in printed] == ["1\n2\n"]
    png = base64.b64decode(drawn[0]["data"]["image/png"])
    assert b"matplotlib" not in png  # so no front end's picture has these bytes
    stamp = notebook["metadata"]["run"]
    assert set(stamp) == {"seconds", "machine", "code", "outputs"}
    assert stamp | notebooks.checksums(notebook) == stamp


def test_side_by_side_only_to_check_and_only_what_takes_one_thread():
    write("a.ipynb", MEET, tag="one-thread")
    write("b.ipynb", MEET, tag="one-thread")
    write("c.ipynb", ALONE)
    for arguments in (["c.ipynb"], ["--in-place"]):
        beside = arguments == ["c.ipynb"] and run_notebooks.cores() > 1
        wait = "20" if beside else "1"
        status, _, said = run("a.ipynb", "b.ipynb", *arguments, WAIT=wait)
        assert status == 0, said
        met = [path.read_text() for path in Path().glob("*.met")]
        assert met.count("True") == (2 if beside else 0), arguments
        for path in Path().glob("*.met"):
            path.unlink()


def test_two_runs_at_once_leave_each_other_alone():
    write("a.ipynb", MEET)
    runs = [start("a.ipynb", WAIT="20")]
    while not list(Path().glob("*.here")):
        assert runs[0].poll() is None, runs[0].communicate()
        time.sleep(0.1)
    runs.append(start("a.ipynb", WAIT="20"))
    for process in runs:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert [path.read_text() for path in Path().glob("*.met")] == ["True", "True"]
    assert list(Path("build/run").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence():
    write("good.ipynb", "1 + 1")
    Path("build").write_text("a file where the folder should be")
    status, _, said = run("good.ipynb")
    assert status == 1
    assert "cannot be written" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_the_kernel_and_leaves_the_notebook(kind):
    note = "(shared / 'pid').write_text(f'{os.getpid()}.')\ntime.sleep(60)"
    write("long.ipynb", SHARED + note)
    before, pid = content(), Path("pid")
    process = start("--in-place", "long.ipynb")
    while not (pid.is_file() and pid.read_text().endswith(".")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(kind)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped" in said
    assert content() == before
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()[:-1]), 0)


@pytest.mark.parametrize("named", ["pictures", "cats_and_dogs_filtered"])
def test_where_the_pictures_come_from_is_said(folder, monkeypatch, named):
    (folder / named).mkdir()
    monkeypatch.setenv("CATS_AND_DOGS_DIR", named if named == "pictures" else "")
    assert run_notebooks.find_pictures().endswith(f"pictures: {folder / named}")
    assert os.environ["CATS_AND_DOGS_DIR"] == str(folder / named)  # also from elsewhere

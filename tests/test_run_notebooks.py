"""`make check` and `make execute`: real kernels on small notebooks."""

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import notebooks
import pytest
import run_notebooks
from conftest import ROOT, write

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


def until(done, process):
    while not done():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def content():
    return {path.name: path.read_bytes() for path in Path().glob("*.ipynb")}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder; what main() sets for its process is not left to other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(signal, "signal", lambda *_: None)
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
    once = "bad.ipynb", "failed", "good.ipynb", "passed", "accuracy", "1 of 2"
    assert all(
        table.count(words) == 1 for words in (*once, "pigs fly", "does not hold")
    )
    assert "bad.ipynb, cell 2 (c1):" in said
    assert "ModuleNotFoundError" in said
    assert "nbformat" not in said and "run_notebooks.py" not in said  # nothing of ours


def test_failures_of_any_kind_end_one_notebook_alone(monkeypatch, capsys):
    answers = Mock(side_effect=[RuntimeError("Kernel didn't respond"), ""])
    monkeypatch.setattr(run_notebooks, "run", answers)
    write("odd.ipynb")
    write("bare.ipynb")
    Path("broken.ipynb").write_text("{")
    names = ["odd.ipynb", "gone.ipynb", "broken.ipynb", "bare.ipynb"]
    monkeypatch.setattr(sys, "argv", ["run_notebooks.py", *names])
    assert run_notebooks.main() == 1
    printed, said = capsys.readouterr()
    assert printed.count("failed") == 4
    assert [line.partition(": JSON")[0] for line in said.splitlines()[1::2]] == [
        "odd.ipynb: RuntimeError: Kernel didn't respond",
        "gone.ipynb is missing.",
        "broken.ipynb is not a valid notebook",
        "bare.ipynb shows no closing table.",
    ]


def test_without_names_all_four_are_run_and_one_that_is_missing_fails():
    status, _, said = run()
    assert status == 1
    assert (
        said.split()
        == " ".join(f"{n} is missing." for n in notebooks.NOTEBOOKS).split()
    )


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


@pytest.mark.parametrize("arguments", [["c.ipynb"], ["--in-place"]])
def test_side_by_side_only_to_check_and_only_what_takes_one_thread(arguments):
    write("a.ipynb", MEET, tag="one-thread")
    write("b.ipynb", MEET, tag="one-thread")
    write("c.ipynb", ALONE)
    beside = arguments == ["c.ipynb"] and run_notebooks.CORES > 1
    names = [*arguments, "a.ipynb", "b.ipynb"]
    status, _, said = run(*names, WAIT="20" if beside else "1")
    assert status == 0, said
    met = [path.read_text() for path in Path().glob("*.met")]
    assert met.count("True") == (2 if beside else 0)


def test_two_runs_at_once_leave_each_other_alone():
    write("a.ipynb", MEET)
    runs = [start("a.ipynb", WAIT="20")]
    until(lambda: list(Path().glob("*.here")), runs[0])
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
    assert said.strip() == "build/run cannot be written: Not a directory."


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_the_kernel_and_leaves_the_notebook(kind):
    note = "(shared / 'pid').write_text(f'{os.getpid()}.')\ntime.sleep(60)"
    write("long.ipynb", SHARED + note)
    before, pid = content(), Path("pid")
    process = start("--in-place", "long.ipynb")
    until(lambda: pid.is_file() and pid.read_text().endswith("."), process)
    process.send_signal(kind)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped" in said
    assert content() == before
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()[:-1]), 0)


@pytest.mark.parametrize("named", ["", "pictures", "nowhere"])
def test_where_the_pictures_come_from_is_said(folder, monkeypatch, named):
    pictures = folder / {"pictures": named}.get(named, "cats_and_dogs_filtered")
    monkeypatch.setenv("CATS_AND_DOGS_DIR", named)
    assert "downloads its pictures (69 MB)" in run_notebooks.find_pictures()
    (pictures / "train").mkdir(parents=True)
    assert run_notebooks.find_pictures().endswith(f"takes its pictures from {pictures}")
    assert os.environ["CATS_AND_DOGS_DIR"] == str(pictures)  # also from elsewhere

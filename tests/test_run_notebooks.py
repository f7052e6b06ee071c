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

COMMAND = [sys.executable, ROOT / "tools/run_notebooks.py"]
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


def start(folder, *arguments, **environment):
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder, *arguments, **environment):
    """(exit status, what it printed, its complaints)"""
    process = start(folder, *arguments, **environment)
    return process.wait(), *process.communicate()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.ipynb")}


def test_check_goes_on_after_failures_of_any_kind_and_touches_nothing(tmp_path):
    write(tmp_path / "bad.ipynb", "x = 1", "import neighbour")
    (tmp_path / "neighbour.py").write_text("")  # a notebook is alone in its folder
    (tmp_path / "broken.ipynb").write_text("{")
    misses = {"measures": [MEASURE | {"verdict": "FAIL"}], "claims": [CLAIM]}
    write(tmp_path / "misses.ipynb", "1 + 1", table=misses)
    write(tmp_path / "rows.ipynb", "1 + 1", table={"measures": [MEASURE], "claims": []})
    doubts = [CLAIM, CLAIM | {"claim": "pigs fly", "verdict": "does not hold here"}]
    write(tmp_path / "good.ipynb", "1 + 1", table=TABLE | {"claims": doubts})
    text = (tmp_path / "good.ipynb").read_text()
    (tmp_path / "good.ipynb").write_text(text.replace('"c1"', '"c0"'))  # the same id
    names = ["bad", "broken", "missing", "misses", "rows", "good"]
    before = content(tmp_path)
    status, printed, said = run(tmp_path, *[f"{name}.ipynb" for name in names])
    assert status == 1
    assert content(tmp_path) == before
    table = printed.split("Results")[1]
    for name in names:
        assert table.count(f"{name}.ipynb") == 1
    assert table.count("failed") == 5
    for words in ("accuracy", "0.97", "1 of 2", "pigs fly", "does not hold here"):
        assert words in table
    assert "bad.ipynb, cell 2 (c1):" in said
    assert "ModuleNotFoundError" in said
    for words in (
        "broken.ipynb is not a valid notebook",
        "missing.ipynb is missing",
        "misses.ipynb misses what the assignment asks (accuracy)",
        "rows.ipynb has a row in its closing table unlike others",
    ):
        assert words in said
    assert "Warning" not in printed + said
    assert "run_notebooks.py" not in said  # no traceback of ours


def test_without_names_all_four_are_run_and_one_that_is_missing_fails(tmp_path):
    status, printed, said = run(tmp_path)
    assert status == 1
    assert "Results" in printed
    for name in notebooks.NOTEBOOKS:
        assert f"{name} is missing" in said


def test_an_unexpected_exception_ends_one_notebook_alone(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    for name in ("first.ipynb", "second.ipynb"):
        write(tmp_path / name, "1 + 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_notebooks, "run", fail)
    monkeypatch.setattr(
        sys, "argv", ["run_notebooks.py", "first.ipynb", "second.ipynb"]
    )
    assert run_notebooks.main() == 1
    said = capsys.readouterr().err
    for name in ("first", "second"):
        assert f"{name}.ipynb: RuntimeError: Kernel didn't respond" in said


def test_execute_replaces_only_what_ran_and_was_not_saved_meanwhile(tmp_path):
    write(tmp_path / "bad.ipynb", "1 / 0")
    draw = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])\nplt.show()"
    write(tmp_path / "good.ipynb", "for i in 1, 2: print(i, flush=True)", draw)
    edit = f"{SHARED}book = shared / 'edited.ipynb'\n"
    edit += "_ = book.write_text(book.read_text().replace('1 + 1', '2 + 2'))"
    write(tmp_path / "edited.ipynb", edit, "1 + 1")
    before = content(tmp_path)
    names = ["bad.ipynb", "edited.ipynb", "good.ipynb"]
    status, _, said = run(tmp_path, "--in-place", *names)
    after = content(tmp_path)
    assert status == 1
    assert after["bad.ipynb"] == before["bad.ipynb"]
    assert after["edited.ipynb"] == before["edited.ipynb"].replace(b"1 + 1", b"2 + 2")
    assert "edited.ipynb was saved while it ran" in said
    assert "build/edited.ipynb" in said
    assert "1 + 1" in (tmp_path / "build/edited.ipynb").read_text()
    notebook = notebooks.read(tmp_path / "good.ipynb")
    assert notebooks.faults(notebook) == []
    printed, drawn, _ = [cell["outputs"] for cell in notebook["cells"]]
    assert [output["text"] for output in printed] == ["1\n2\n"]
    png = base64.b64decode(drawn[0]["data"]["image/png"])
    assert b"matplotlib" not in png  # so no front end's picture has these bytes
    stamp = notebook["metadata"]["run"]
    assert set(stamp) == {"seconds", "machine", "code", "outputs"}
    assert stamp["code"] == notebooks.code_checksum(notebook)
    assert stamp["outputs"] == notebooks.outputs_checksum(notebook)


def test_side_by_side_only_to_check_and_only_what_takes_one_thread(tmp_path):
    for name in ("a.ipynb", "b.ipynb"):
        write(tmp_path / name, MEET, tag="one-thread")
    write(tmp_path / "c.ipynb", ALONE)
    for options, wait in (([], "20"), (["--in-place"], "1")):
        status, _, said = run(tmp_path, *options, *content(tmp_path), WAIT=wait)
        assert status == 0, said
        met = [path.read_text() for path in tmp_path.glob("*.met")]
        beside = not options and run_notebooks.cores() > 1
        assert met.count("True") == (2 if beside else 0), options
        for path in tmp_path.glob("*.met"):
            path.unlink()


def test_two_runs_at_once_leave_each_other_alone(tmp_path):
    write(tmp_path / "a.ipynb", MEET)
    runs = [start(tmp_path, "a.ipynb", WAIT="20")]
    while not list(tmp_path.glob("*.here")):
        assert runs[0].poll() is None, runs[0].communicate()
        time.sleep(0.1)
    runs.append(start(tmp_path, "a.ipynb", WAIT="20"))
    for process in runs:
        assert process.wait() == 0, process.communicate()
    assert [path.read_text() for path in tmp_path.glob("*.met")] == ["True", "True"]
    assert list((tmp_path / "build/run").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    write(tmp_path / "good.ipynb", "1 + 1")
    (tmp_path / "build").write_text("a file where the folder should be")
    status, _, said = run(tmp_path, "good.ipynb")
    assert status == 1
    assert "cannot be written" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_the_kernel_and_leaves_the_notebook(tmp_path, kind):
    pid = tmp_path / "pid"
    note = (
        f"{SHARED}_ = (shared / 'pid').write_text(f'{{os.getpid()}}.')\ntime.sleep(60)"
    )
    write(tmp_path / "long.ipynb", note)
    before = content(tmp_path)
    process = start(tmp_path, "--in-place", "long.ipynb")
    deadline = time.monotonic() + 30
    while not (pid.is_file() and pid.read_text().endswith(".")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(kind)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped" in said
    assert content(tmp_path) == before
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()[:-1]), 0)


@pytest.mark.parametrize("named", ["", "pictures", "cats_and_dogs_filtered"])
def test_where_the_pictures_come_from_is_said(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CATS_AND_DOGS_DIR", named if named == "pictures" else "")
    if named:
        Path(named).mkdir()
    said = run_notebooks.find_pictures()
    assert "\n" not in said
    if named:  # also for a kernel that works in another folder
        assert os.environ["CATS_AND_DOGS_DIR"] == str(tmp_path / named)
        assert str(tmp_path / named) in said
    else:
        assert "downloads" in said
        assert "CATS_AND_DOGS_DIR" in said

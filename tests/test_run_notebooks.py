"""`make check` and `make execute`: real kernels on small notebooks."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import notebooks
import pytest
import run_notebooks
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook

TABLE = """\
print("measure   asked   our bar   got   verdict")
print("accuracy of it   > 0.9   >= 0.95   0.97   pass")"""
COMMAND = [sys.executable, ROOT / "tools/run_notebooks.py"]


def write(folder, name, *sources, tag_last=False):
    cells = [new_code_cell(source, id=f"c{n}") for n, source in enumerate(sources)]
    if tag_last:
        cells[-1].metadata["tags"] = ["acceptance"]
    nbformat.write(new_notebook(cells=cells), folder / name)


def run(folder, *arguments):
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_check_goes_on_after_a_failure_and_touches_nothing(tmp_path):
    write(tmp_path, "bad.ipynb", "x = 1", "import good_neighbour")
    write(tmp_path, "good.ipynb", "1 + 1", TABLE, tag_last=True)
    (tmp_path / "good_neighbour.py").write_text("")  # a notebook is alone in its folder
    (tmp_path / "broken.ipynb").write_text("{")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.ipynb")}
    done = run(tmp_path, "bad.ipynb", "broken.ipynb", "good.ipynb")
    assert done.returncode == 1
    assert {path: path.read_bytes() for path in before} == before
    table = done.stdout.splitlines()
    assert any("bad.ipynb" in line and "failed" in line for line in table)
    assert any("good.ipynb" in line and "passed" in line for line in table)
    assert any("accuracy of it" in line and "0.97" in line for line in table)
    assert "bad.ipynb, cell 2 (c1)" in done.stderr
    assert "ModuleNotFoundError" in done.stderr
    assert "broken.ipynb is not a valid notebook" in done.stderr


def test_execute_replaces_only_what_ran_and_stamps_it(tmp_path):
    write(tmp_path, "bad.ipynb", "1 / 0")
    write(tmp_path, "good.ipynb", "print(6 * 7)")
    bad = (tmp_path / "bad.ipynb").read_bytes()
    assert run(tmp_path, "--in-place", "bad.ipynb", "good.ipynb").returncode == 1
    assert (tmp_path / "bad.ipynb").read_bytes() == bad
    cell = nbformat.read(tmp_path / "good.ipynb", 4).cells[0]
    assert (cell.id, cell.execution_count, cell.outputs[0].text) == ("c0", 1, "42\n")
    stamp = nbformat.read(tmp_path / "good.ipynb", 4).metadata["run"]
    assert stamp["seconds"] >= 0
    assert "torch" in stamp["machine"]


ONE_THREAD = """\
class torch:
    set_num_threads = print

torch.set_num_threads(1)"""
SPAN = """\
import pathlib, time
span = [time.time()]
time.sleep(2)
pathlib.Path("span").write_text(f"{span[0]} {time.time()}")"""


def span(folder, name):
    text = (folder / "build/run" / name / "span").read_text()
    return [float(number) for number in text.split()]


def test_one_thread_side_by_side_others_before_and_alone_shown_as_asked(tmp_path):
    for name in ("a", "b"):
        write(tmp_path, f"{name}.ipynb", ONE_THREAD, SPAN)
    for name in ("c", "d"):
        write(tmp_path, f"{name}.ipynb", SPAN)
    done = run(tmp_path, "a.ipynb", "b.ipynb", "c.ipynb", "d.ipynb")
    assert done.returncode == 0, done.stderr
    spans = [span(tmp_path, name) for name in ("a", "b", "c", "d")]
    (a, a_end), (b, b_end), (_, c_end), (d, d_end) = spans
    assert c_end < d < d_end < min(a, b)
    assert (max(a, b) < min(a_end, b_end)) == (run_notebooks.cores() > 1)
    rows = [line for line in done.stdout.splitlines() if "passed" in line]
    assert [row.split()[1][0] for row in rows] == ["a", "b", "c", "d"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    write(tmp_path, "good.ipynb", "1 + 1")
    (tmp_path / "build").write_text("a file where the folder should be")
    done = run(tmp_path, "good.ipynb")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_the_kernel_and_leaves_the_notebook(tmp_path, kind):
    sleep = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    write(tmp_path, "long.ipynb", sleep)
    before = (tmp_path / "long.ipynb").read_bytes()
    process = subprocess.Popen(
        [*COMMAND, "--in-place", "long.ipynb"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    pid = tmp_path / "build/run/long/pid"
    deadline = time.monotonic() + 30
    while not (pid.is_file() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel = int(pid.read_text())
    process.send_signal(kind)
    _, message = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"stopped" in message
    assert (tmp_path / "long.ipynb").read_bytes() == before
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def make(*arguments):
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_broken_interpreter_is_one_sentence():
    done = make("check", "VENV=", "PYTHON=/nowhere/python")
    assert done.returncode != 0
    assert "PYTHON=/nowhere/python is no Python interpreter" in done.stderr
    assert "Traceback" not in done.stderr


def test_make_alone_lists_the_targets():
    listed = make().stdout
    for target in ("check", "execute", "pdf", "zip", "test", "clean"):
        assert f"make {target}" in listed


def test_seeds_are_put_in_and_kept_until_the_code_changes(tmp_path):
    count = "SEED = 0  # of all\nprint(SEED)"
    table = TABLE.replace("0.97", '" + str(SEED / 10) + "')
    write(tmp_path, "good.ipynb", count, table, tag_last=True)
    before = (tmp_path / "good.ipynb").read_bytes()
    done = run(tmp_path, "good.ipynb", "--seeds", "1", "2")
    assert done.returncode == 0, done.stderr
    assert "good.ipynb, seed 2" in done.stdout
    assert (tmp_path / "good.ipynb").read_bytes() == before
    kept = json.loads((tmp_path / "tools/seeds.json").read_text())["good"]["got"]
    assert kept == {"1": {"accuracy of it": "0.1"}, "2": {"accuracy of it": "0.2"}}
    write(tmp_path, "good.ipynb", count + "  # changed", table, tag_last=True)
    assert run(tmp_path, "good.ipynb", "--seeds", "3").returncode == 0
    kept = json.loads((tmp_path / "tools/seeds.json").read_text())["good"]["got"]
    assert kept == {"3": {"accuracy of it": "0.3"}}


def test_a_seeds_result_belongs_to_the_code_that_ran(tmp_path):
    edit = "import pathlib\nbook = pathlib.Path('../../../good.ipynb')\n"
    edit += "book.write_text(book.read_text().replace('= 0', '= 00'))"
    write(tmp_path, "good.ipynb", "SEED = 0", edit, TABLE, tag_last=True)
    before = notebooks.checksum(nbformat.read(tmp_path / "good.ipynb", 4))
    assert run(tmp_path, "good.ipynb", "--seeds", "1").returncode == 0
    kept = json.loads((tmp_path / "tools/seeds.json").read_text())["good"]
    after = notebooks.checksum(nbformat.read(tmp_path / "good.ipynb", 4))
    assert kept["code"] == before != after


def test_a_notebook_without_a_seed_is_one_sentence(tmp_path):
    write(tmp_path, "good.ipynb", "1 + 1")
    done = run(tmp_path, "good.ipynb", "--seeds", "1")
    assert done.returncode == 1
    assert "good.ipynb has no line `SEED = ...`" in done.stderr
    assert "Traceback" not in done.stderr

"""`make check` and `make execute` on small notebooks, with real kernels."""

import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import submit
from conftest import PLOT, PRINTED, ROOT, make, write

pytestmark = pytest.mark.usefixtures("folder")
README = "".join(f"<!-- hw2_{n} -->\nold\n<!-- end -->\n" for n in ("moe", "cnn"))


def content():
    return {path.name: path.read_bytes() for path in Path().glob("*.ipynb")}


def test_check_goes_on_after_any_failure_and_touches_nothing():
    """An error that is shown is a failure, whatever the kernel's reply and the tags say."""
    write("bad.ipynb", "x = 1", "\n1 / 0", "# never reached")
    write("dies.ipynb", "# the end\nimport os\nos._exit(1)")
    write("tagged.ipynb", "1 / 0", tag="raises-exception")
    write("shown.ipynb", "_ = get_ipython().run_cell('1 / 0')")
    write("hw2_cnn (1).ipynb", "print('STAND-IN DATA')")
    Path("broken.ipynb").write_text("{")
    names = "bad.ipynb dies.ipynb tagged.ipynb shown.ipynb gone.ipynb broken.ipynb"
    before = content()
    status, said = make("check", f"NOTEBOOKS={names} hw2_cnn (1).ipynb")
    assert status and content() == before
    assert all(f"\n{name} failed, " in said for name in names.split())
    passed = said.split("\nhw2_cnn (1).ipynb passed, ")[1]
    assert passed.split(" s\n")[1].startswith(PRINTED)
    assert said.count("ZeroDivisionError: division by zero") == 3
    assert "`1 / 0` failed:\n" in said and "`# the end`: Kernel died" in said
    assert "There is no gone.ipynb: write" in said and "no notebook for" in said


def test_execute_keeps_what_ran_unless_it_was_saved_meanwhile_or_ran_on_stand_ins():
    """What ran on stand-in data stays in build/, and README as it was."""
    Path("README.md").write_text(README)
    edit = "from pathlib import Path\nbook = Path('saved.ipynb')\n"
    write("saved.ipynb", edit + "_ = book.write_text(book.read_text() + ' ')")
    write("hw2_cnn.ipynb", "print('STAND-IN DATA')")
    write("hw2_moe.ipynb", PLOT, "for i in 1, 2: print(i, flush=True)", tag="cover")
    before = content()
    status, said = make("execute", f"NOTEBOOKS={' '.join(before)}")
    assert status
    after = content()
    assert "saved while it ran: its run is in build/" in said
    assert "ran on stand-in data: its run is in build/" in said
    assert after["saved.ipynb"] == before["saved.ipynb"] + b" "
    assert after["hw2_cnn.ipynb"] == before["hw2_cnn.ipynb"]
    notebook = submit.read(after["hw2_moe.ipynb"])
    assert submit.faults(notebook) == []
    assert notebook["cells"][1]["outputs"][0]["text"] == "1\n2\n"
    took = notebook["metadata"]["run"]["took"]
    block = f"\n`hw2_moe`, {took}:\n```text\n{PRINTED}\n```\n"
    assert Path("README.md").read_text() == README.replace("\nold\n", block, 1)
    cover = Path("docs/hw2_moe.png").read_bytes()
    assert cover.startswith(b"\x89PNG") and len(cover) <= 75_000


CONFIG = "c = get_config()\nc.InteractiveShellApp.exec_lines = ['foreign = 1']\n"
FOREIGN = {
    "foreign/numpy.py": "raise ImportError('a foreign numpy')",
    "foreign/sitecustomize.py": "import builtins\nbuiltins.foreign = 1",
    "foreign/matplotlibrc": "text.usetex: True",
    "foreign/kernels/python3/kernel.json": '{"argv": ["false"], "display_name": "x"}',
    "foreign/profile_default/startup/a.py": "foreign = 1",
    "home/.ipython/profile_default/startup/a.py": "foreign = 1",
    "venv/etc/ipython/ipython_config.py": CONFIG
    + "c.InlineBackend.figure_formats = {'svg'}",
}


def test_no_setting_of_the_reader_or_the_machine_reaches_a_kernel(folder):
    """With a virtual environment that has an IPython configuration."""
    venv.create("venv", symlinks=True)
    packages = next(Path("venv").glob("lib/python*/site-packages"))
    (packages / "ours.pth").write_text("\n".join(sys.path[1:]))
    for name, text in FOREIGN.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    look = f"import sys, numpy\nassert sys.prefix == {str(folder / 'venv')!r}\n"
    look += "assert 'foreign' not in [*dir(), *dir(__builtins__)]"
    write("a.ipynb", look, PLOT)
    names = "PYTHONPATH JUPYTER_PATH IPYTHONDIR MATPLOTLIBRC MPLCONFIGDIR"
    reader = dict.fromkeys(names.split(), str(folder / "foreign"))
    reader |= {"MPLBACKEND": "Agg", "HOME": str(folder / "home")}
    python = f"PYTHON={folder}/venv/bin/python"
    status, said = make("check", python, "NOTEBOOKS=a.ipynb", **reader)
    assert status == 0, said
    ran = submit.read(Path("build/a.ipynb").read_bytes())
    assert [*ran["cells"][1]["outputs"][0]["data"]] == ["image/png", "text/plain"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_kernel_and_leaves_the_notebook(kind):
    note = "import os\n_ = open('pid', 'w').write(f'{os.getpid()} ')\nimport time\n"
    write("long.ipynb", f"{note}time.sleep(60)")
    before, pid = content(), Path("pid")
    command = [sys.executable, ROOT / "tools/run.py", "--in-place", "long.ipynb"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not (pid.exists() and pid.read_text().endswith(" ")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(kind)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and "stopped" in said and content() == before
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)

"""`make check` and `make execute` on small notebooks, with real kernels."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import submit
from conftest import PLOT, ROOT, make, write
from PIL import Image

pytestmark = pytest.mark.usefixtures("folder")
README = (
    "# A\n<!-- hw2_moe -->\nold\n<!-- end -->\n<!-- hw2_cnn -->\nold\n<!-- end -->\n"
)
PRINTED = "what   got  asked\nright  0.97 0.9"  # by conftest.RESULTS


def content():
    return {path.name: path.read_bytes() for path in Path().glob("*.ipynb")}


def test_check_goes_on_after_any_failure_and_touches_nothing():
    """Fault 2 (an error is a failure whatever the reply and the tags say), 5, 8."""
    write("bad.ipynb", "x = 1", "\n1 / 0", "# never reached")
    write("dies.ipynb", "# the end\nimport os\nos._exit(1)")
    write("tagged.ipynb", "1 / 0", tags=("raises-exception",))
    write("shown.ipynb", "_ = get_ipython().run_cell('1 / 0')")
    write("hw2_cnn (1).ipynb", "print('STAND-IN DATA')")
    Path("broken.ipynb").write_text("{")
    names = "bad.ipynb dies.ipynb tagged.ipynb shown.ipynb gone.ipynb broken.ipynb"
    before = content()
    status, said = make("check", f"NOTEBOOKS={names} hw2_cnn (1).ipynb")
    assert status and content() == before
    for name in names.split():
        assert f"\n{name} failed, " in said
    assert f"\nhw2_cnn (1).ipynb passed, 2 s\n{PRINTED}\n" in re.sub(
        r"\d+ s", "2 s", said
    )
    assert said.count("ZeroDivisionError: division by zero") == 3
    assert "`1 / 0` failed:\n" in said and "`# the end`: Kernel died" in said
    assert "No such file" in said and "no notebook for Jupyter" in said
    assert json.loads(Path("build/bad.ipynb").read_bytes())["cells"][2]["outputs"]


def test_execute_keeps_what_ran_unless_it_was_saved_meanwhile_or_ran_on_stand_ins():
    """Fault 3: what ran on stand-in data stays in build/, and README as it was."""
    Path("README.md").write_text(README)
    edit = "from pathlib import Path\nbook = Path('saved.ipynb')\n"
    write("saved.ipynb", edit + "_ = book.write_text(book.read_text() + ' ')")
    write("hw2_cnn.ipynb", "print('STAND-IN DATA')")
    write("hw2_moe.ipynb", PLOT, "for i in 1, 2: print(i, flush=True)", tags=("cover",))
    before = content()
    names = "hw2_cnn.ipynb hw2_moe.ipynb saved.ipynb"
    status, said = make("execute", f"NOTEBOOKS={names}")
    after = content()
    assert status
    assert "It was saved while it ran: its run is in build/." in said
    assert after["saved.ipynb"] == before["saved.ipynb"] + b" "
    assert "It ran on stand-in data: its run is in build/." in said
    assert after["hw2_cnn.ipynb"] == before["hw2_cnn.ipynb"]
    notebook = submit.read(after["hw2_moe.ipynb"])
    assert submit.faults(notebook) == []
    assert notebook["cells"][2]["outputs"][0]["text"] == "1\n2\n"
    took = notebook["metadata"]["run"]["took"]
    block = f"\n`hw2_moe`, {took}:\n\n```text\n{PRINTED}\n```\n"
    assert Path("README.md").read_text() == README.replace("\nold\n", block, 1)
    assert Path("docs/hw2_moe.png").stat().st_size <= 75_000
    assert Image.open("docs/hw2_moe.png").format == "PNG"


FOREIGN = {
    "foreign/numpy.py": "raise ImportError('a foreign numpy')",
    "foreign/sitecustomize.py": "import builtins\nbuiltins.foreign = 1",
    "foreign/matplotlibrc": "text.usetex: True\nsavefig.format: svg",
    "foreign/kernels/python3/kernel.json": '{"argv": ["false"], "display_name": "x"}',
    "foreign/profile_default/startup/a.py": "foreign = 1",
    "home/.ipython/profile_default/startup/a.py": "foreign = 1",
    "home/.config/matplotlib/matplotlibrc": "text.usetex: True",
    "venv/etc/ipython/ipython_config.py": "c = get_config()\n"
    "c.InteractiveShellApp.exec_lines = ['foreign = 1']\n"
    "c.InlineBackend.figure_formats = {'svg'}",
}


def test_no_setting_of_the_reader_or_the_machine_reaches_a_kernel(folder):
    """Fault 1, with a virtual environment that has an IPython configuration."""
    venv.create("venv", symlinks=True)
    packages = next(Path("venv").glob("lib/python*/site-packages"))
    (packages / "ours.pth").write_text("\n".join(sys.path[1:]))
    for name, text in FOREIGN.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    look = "import os, sys, numpy\nassert 'foreign' not in dir()\nassert sys.prefix == "
    look += f"{str(folder / 'venv')!r}\nassert not hasattr(__builtins__, 'foreign')"
    write("a.ipynb", look, PLOT)
    foreign = str(folder / "foreign")
    names = "PYTHONPATH JUPYTER_PATH IPYTHONDIR MATPLOTLIBRC MPLCONFIGDIR"
    reader = dict.fromkeys(names.split(), foreign) | {"MPLBACKEND": "Agg"}
    python = f"PYTHON={folder}/venv/bin/python"
    status, said = make("check", python, "NOTEBOOKS=a.ipynb", HOME="home", **reader)
    assert status == 0, said
    ran = submit.read(Path("build/a.ipynb").read_bytes())
    assert list(ran["cells"][2]["outputs"][0]["data"]) == ["image/png", "text/plain"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_kernel_and_leaves_the_notebook(kind):
    note = (
        "import os, time\n_ = open('pid', 'w').write(f'{os.getpid()} ')\ntime.sleep(60)"
    )
    write("long.ipynb", note)
    before, pid = content(), Path("pid")
    command = [sys.executable, ROOT / "tools/run.py", "--in-place", "long.ipynb"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not (pid.exists() and pid.read_text().endswith(" ")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(kind)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and "stopped" in said and content() == before
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)

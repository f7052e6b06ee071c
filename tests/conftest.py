"""What several test files share: a notebook's definitions, and small notebooks to run."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
torch.set_num_threads(1)  # small tensors, and a machine that may be busy
MAKE = [shutil.which("make"), "-f", ROOT / "Makefile", f"PYTHON={sys.executable}"]
OUTER = ("MAKE", "MFLAGS", "NETID", "NOTEBOOKS", "PYTHON")  # of the make that runs this
PLOT = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])"
PRINTED = "what   got  asked\nright  0.97 0.9"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder, named as readers name theirs; the list of fonts is kept."""
    made, fonts = tmp_path / "Ma thèse", ROOT / "build/settings"
    (made / "build").mkdir(parents=True)
    fonts.mkdir(parents=True, exist_ok=True)
    (made / "build/settings").symlink_to(fonts)
    monkeypatch.chdir(made)
    return made


def write(path: str, *sources: str, tag: str = "first") -> None:
    """Writes a notebook: these cells, the first with this tag, and the results."""
    cells = [nbformat.v4.new_code_cell(s) for s in (*sources, f"print({PRINTED!r})")]
    for cell, name in (cells[0], tag), (cells[-1], "results"):
        cell.metadata["tags"] = [name]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def make(*arguments: str, **environment: str) -> tuple[int, str]:
    """Runs our Makefile in the current folder → its status, and what it said."""
    if not Path("tools").exists():
        Path("tools").symlink_to(ROOT / "tools")
    for name in ("requirements.txt", "pyproject.toml"):
        if not Path(name).exists():
            shutil.copy(ROOT / name, name)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(OUTER)}
    to_one = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    env = clean | environment
    done = subprocess.run([*MAKE, "VENV=", *arguments], check=False, env=env, **to_one)
    return done.returncode, done.stdout


def is_definition(node: ast.stmt) -> bool:
    """True for imports, functions, classes, and assignments to CONSTANTS or `device`."""
    parts = [part for to in getattr(node, "targets", []) for part in ast.walk(to)]
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    if isinstance(node, ast.Assign):
        return all(name.isupper() or name == "device" for name in names)
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


def load_definitions(notebook: str) -> ModuleType:
    """Runs only the definitions of a notebook in the root folder, no training and no data."""
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    tree = ast.parse("\n".join(c.source for c in cells if c.cell_type == "code"))
    tree.body = [node for node in tree.body if is_definition(node)]
    module = ModuleType(Path(notebook).stem)
    sys.modules[module.__name__] = module  # classes look their module up by its name
    exec(compile(tree, notebook, "exec"), module.__dict__)  # noqa: S102
    return module

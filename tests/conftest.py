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

MAKE = shutil.which("make")
PLOT = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])"
RESULTS = "print('what   got  asked')\nprint('right  0.97 0.9')"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder, named as readers name theirs."""
    (tmp_path / "Ma thèse").mkdir()
    monkeypatch.chdir(tmp_path / "Ma thèse")
    return tmp_path / "Ma thèse"


def write(path: str, *sources: str, tags: tuple[str, ...] = ()) -> None:
    """Writes a notebook: a title, these cells with these tags, and the results."""
    new_cell, all_tags = nbformat.v4.new_code_cell, [*tags, *[""] * 9]
    cells = [nbformat.v4.new_markdown_cell(f"# {path}")]
    for source, tag in [*zip(sources, all_tags), (RESULTS, "results")]:
        cells.append(new_cell(source, metadata={"tags": [tag] if tag else []}))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def make(*arguments: str, **environment: str) -> tuple[int, str]:
    """Runs our Makefile in the current folder → its status, and what it said."""
    for name in ("tools", "requirements.txt", "pyproject.toml"):
        if not Path(name).exists():
            Path(name).symlink_to(ROOT / name)
    outer = ("MAKE", "MFLAGS", "GIT", "NETID", "NOTEBOOKS", "PYTHON")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(outer)}
    done = subprocess.run(
        [
            MAKE,
            "-f",
            ROOT / "Makefile",
            f"PYTHON={sys.executable}",
            "VENV=",
            *arguments,
        ],
        check=False,
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert "Traceback" not in done.stdout or "Error: " in done.stdout
    return done.returncode, done.stdout


def is_definition(node: ast.stmt) -> bool:
    """True for imports, functions, classes, and assignments to CONSTANTS or `device`."""
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
        return True
    if not isinstance(node, ast.Assign):
        return False
    parts = [part for target in node.targets for part in ast.walk(target)]
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    return all(name.isupper() or name == "device" for name in names)


def load_definitions(notebook: str) -> ModuleType:
    """Runs only the definitions of a notebook in the root folder, no training and no data."""
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    source = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if is_definition(node)]
    module = ModuleType(Path(notebook).stem)
    sys.modules[module.__name__] = module  # classes look their module up by its name
    exec(compile(tree, notebook, "exec"), module.__dict__)  # noqa: S102
    return module

"""What several test files share: folders, a notebook's definitions, small notebooks."""

import ast
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
torch.set_num_threads(1)  # small tensors, and a machine that may be busy

MEASURE = {"measure": "accuracy", "asked": "> 0.9", "bar": "> 0.95", "got": "0.97"}
CLAIM = {"claim": "the sky is blue", "figures": "3 of 3 days", "verdict": "holds"}
DOUBT = CLAIM | {"claim": "pigs fly", "verdict": "does not hold here"}
TABLE = {"measures": [MEASURE | {"verdict": "pass"}], "claims": [CLAIM, DOUBT]}
SHOW = f"""\
from IPython.display import display
data = {{"text/plain": "a table", "application/vnd.hw2.results+json": {TABLE}}}
display(data, raw=True)"""


def write(path: str, *sources: str, tag: str = "") -> None:
    """Writes a notebook of these code cells and one that shows a closing table."""
    sources = [*sources, SHOW]
    cells = [nbformat.v4.new_code_cell(s, id=f"c{n}") for n, s in enumerate(sources)]
    cells[0].metadata["tags"] = [tag] if tag else []
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


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

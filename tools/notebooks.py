"""What a notebook file says of itself: shared by the runner, the packer and the tests."""

import hashlib
import json
import re
import threading
from pathlib import Path

import nbformat
from nbformat import ValidationError

STAND_IN = "STAND-IN DATA"  # hw2_cnn.ipynb prints this when it had no real images
COLUMNS = ("measure", "asked", "our bar", "got", "verdict")
SEEDS = Path("tools/seeds.json")  # results with other seeds: see keep_seed
SEEDS_LOCK = threading.Lock()


def read(path: Path) -> nbformat.NotebookNode:
    """Reads and validates a notebook; ValueError with one sentence if it is none."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).strip().splitlines()[0][:120] or type(error).__name__
        raise ValueError(f"{path.name} is not a valid notebook: {reason}") from None
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The code cells that hold anything, in order."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [cell for cell in cells if cell.source.strip()]


def text_of(output: nbformat.NotebookNode) -> str:
    """The plain text of an output: a stream's, or what stands beside a richer form."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback)
    return "\n".join(
        output.data[kind] for kind in ("text/plain", "text/html") if kind in output.data
    )


def acceptance(notebook: nbformat.NotebookNode) -> list[tuple[str, ...]]:
    """The rows of the table that the cell tagged `acceptance` printed, see COLUMNS."""
    tagged = [
        cell
        for cell in code_cells(notebook)
        if "acceptance" in cell.metadata.get("tags", [])
    ]
    text = "\n".join(text_of(output) for cell in tagged for output in cell.outputs)
    rows = (tuple(re.split(r"\s{2,}", line.strip())) for line in text.splitlines())
    return [row for row in rows if len(row) == len(COLUMNS) and row != COLUMNS]


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """Why a notebook is not fit to be handed in, a phrase each; [] if it is."""
    cells = code_cells(notebook)
    outputs = [output for cell in cells for output in cell.outputs]
    counts = [cell.execution_count for cell in cells]
    found = []
    if not cells:
        found.append("holds no code")
    elif None in counts:
        found.append(
            f"has a cell that was never run (code cell {counts.index(None) + 1})"
        )
    elif counts != list(range(1, len(cells) + 1)):
        found.append("was not run from top to bottom in one go")
    for number, cell in enumerate(cells, 1):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        found += [f"ends in {error.ename} in code cell {number}" for error in errors]
    for number, cell in enumerate(notebook.cells, 1):
        if re.search(r"\bTODO\b", cell.source):
            found.append(f"still holds a TODO in cell {number}")
    if any(STAND_IN in text_of(output) for output in outputs):
        found.append("holds results from stand-in data, not from the real images")
    return found


def takes_one_thread(path: Path) -> bool:
    """Whether the notebook leaves the other cores alone: its line that says so."""
    try:
        cells = code_cells(read(path))
    except ValueError:
        return False
    line = re.compile(r"^torch\.set_num_threads\(1\)", re.MULTILINE)
    return any(line.search(cell.source) for cell in cells)


def checksum(notebook: nbformat.NotebookNode) -> str:
    """Of the code, so that results of other code are known as such."""
    code = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(code.encode()).hexdigest()


def set_seed(notebook: nbformat.NotebookNode, path: Path, seed: int) -> None:
    """Puts `seed` in place of the number in the notebook's line `SEED = ...`."""
    for cell in code_cells(notebook):
        cell.source, found = re.subn(
            r"^SEED = \d+", f"SEED = {seed}", cell.source, flags=re.MULTILINE
        )
        if found:
            return
    raise ValueError(f"{path.name} has no line `SEED = ...` to put seed {seed} into")


def keep_seed(code: str, name: str, seed: int, rows: list[tuple[str, ...]]) -> None:
    """Adds what code of this checksum got with a seed to SEEDS; forgets other code's."""
    with SEEDS_LOCK:
        kept = json.loads(SEEDS.read_text()) if SEEDS.exists() else {}
        if kept.get(name, {}).get("code") != code:
            kept[name] = {"code": code, "got": {}}
        kept[name]["got"][str(seed)] = {row[0]: row[3] for row in rows}
        SEEDS.parent.mkdir(exist_ok=True)
        SEEDS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def got_with_seeds(
    notebook: nbformat.NotebookNode, name: str, folder: Path
) -> list[dict[str, str]]:
    """{measure: got} for each other seed that the present code was run with."""
    path = folder / SEEDS
    mine = json.loads(path.read_text()).get(name, {}) if path.exists() else {}
    return list(mine["got"].values()) if mine.get("code") == checksum(notebook) else []

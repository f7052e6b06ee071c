"""What a notebook file says of itself, read with Python's standard library alone.

Every tool works on the current folder: make runs them in the project's own.
"""

import hashlib
import json
import os
import re
from pathlib import Path

NAMES = ("hw2_moe", "hw2_cnn", "hw2_rnn", "seq_classification")
NOTEBOOKS = tuple(f"{name}.ipynb" for name in NAMES)
RESULTS = "application/vnd.hw2.results+json"  # the closing table, as data
COLUMNS = {
    "measures": ("measure", "asked", "bar", "got", "verdict"),
    "claims": ("claim", "figures", "verdict"),
}
VERDICTS = {
    "measures": ("pass", "below our bar", "FAIL", "stand-in"),
    "claims": ("holds", "does not hold here", "stand-in"),
}
UNFINISHED = re.compile(r"\b(?:todos?|fixme)\b", re.IGNORECASE)
NOT_A_NOTEBOOK = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


def whole(notebook: dict) -> dict:
    """The same notebook with its texts whole; an error where it is none."""
    if notebook["nbformat"] != 4:
        raise ValueError(f"its format is {notebook['nbformat']!r:.20}, not 4")
    notebook["metadata"].get("run", {}).keys()
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
        cell["metadata"].keys()
        for output in cell["outputs"] if cell["cell_type"] == "code" else ():
            if output["output_type"] == "stream":
                output["text"] = "".join(output["text"])
            for kind, value in output.get("data", {}).items():
                output["data"][kind] = value if "json" in kind else "".join(value)
    return notebook


def read(path: Path) -> dict:
    """Reads a notebook; ValueError with a phrase if it is none."""
    try:
        return whole(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except NOT_A_NOTEBOOK as error:
        reason = f"is not a valid notebook: {type(error).__name__}, {error}"
        raise ValueError(" ".join(reason.split())[:160]) from None


def replace(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def code_cells(notebook: dict) -> list[dict]:
    """The code cells that hold anything, in order."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    return [cell for cell in cells if cell["source"].strip()]


def text_of(output: dict) -> str:
    """What an output shows as plain text."""
    return output.get("text") or output.get("data", {}).get("text/plain", "")


def results(notebook: dict) -> dict[str, list[dict[str, str]]]:
    """The closing table, in the order of COLUMNS; ValueError where it cannot be read."""
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    shown = [o["data"][RESULTS] for o in outputs if RESULTS in o.get("data", ())]
    if not shown:
        raise ValueError("shows no closing table")
    last = shown[-1]
    try:
        table = {  # a file does not keep the order of columns
            kind: [{column: row[column] for column in columns} for row in last[kind]]
            for kind, columns in COLUMNS.items()
        }
    except (TypeError, LookupError):
        table = {}
    rows = [(kind, row) for kind in table for row in table[kind]]
    values = [value for _, row in rows for value in row.values()]
    if (
        table != last
        or not table.get("measures")
        or not all(isinstance(value, str) and value for value in values)
        or not all(row["verdict"] in VERDICTS[kind] for kind, row in rows)
    ):
        raise ValueError("has a closing table whose rows cannot be read")
    return table


def checksums(notebook: dict) -> dict[str, str]:
    """SHA-256 of code and of outputs, blind to all that a front end changes by itself.

    Of outputs, printed text and pictures count, in whatever pieces they come. The runner
    compresses pictures anew, so after a run in a front end they have other bytes.
    """
    cells, outputs = code_cells(notebook), []
    for cell in cells:
        outputs.append("".join(output.get("text", "") for output in cell["outputs"]))
        data = [output.get("data", {}) for output in cell["outputs"]]
        outputs += [d[k] for d in data for k in ("text/plain", "image/png") if k in d]
    sums = {"code": [cell["source"] for cell in cells], "outputs": outputs}
    for name, texts in sums.items():
        tidied = ("\n".join(map(str.rstrip, t.strip().splitlines())) for t in texts)
        sums[name] = hashlib.sha256("\0".join(tidied).encode()).hexdigest()
    return sums


def faults(notebook: dict) -> list[str]:
    """Why a notebook is not fit to be handed in, and what to do before it is run again."""
    cells, now = code_cells(notebook), checksums(notebook)
    stamp = notebook["metadata"].get("run", {})
    counts = [cell.get("execution_count") for cell in cells]
    found = []
    if set(counts) == {None} and any(cell["outputs"] for cell in cells):
        found.append("has lost its counts, as Colab drops them when its session ends:")
    elif None in counts:
        number = counts.index(None) + 1
        found.append(f"has a cell that was never run (code cell {number}):")
    elif counts != list(range(1, len(cells) + 1)):
        found.append("was not run from top to bottom in a fresh kernel:")
    elif stamp.get("outputs") == now["outputs"] and stamp.get("code") != now["code"]:
        found.append("has code that was edited and not run again:")
    for number, cell in enumerate(cells, 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                name = output.get("ename")
                found.append(f"ends in {name} in code cell {number}: mend it,")
    for number, cell in enumerate(notebook["cells"], 1):
        if word := UNFINISHED.search(cell["source"]):
            found.append(f"still holds a {word[0]} in cell {number}: finish it,")
    try:
        table = results(notebook)
    except ValueError as error:
        return [*found, f"{error}: restore its last cells,"]
    if "stand-in" in [row["verdict"] for rows in table.values() for row in rows]:
        found.append("holds results from stand-in data: find pictures or a network,")
    missed = [row["measure"] for row in table["measures"] if row["verdict"] == "FAIL"]
    found += [f"misses what is asked of {measure}: improve it," for measure in missed]
    return found

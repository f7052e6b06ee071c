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


def text(value: str | list) -> str:
    """A text, which the file may hold whole or as a list of lines."""
    if not isinstance(value, (str, list)):
        raise TypeError(f"{value!r:.40} stands where a text should")
    return "".join(value)


def tidy_output(output: dict) -> dict:
    """An output with its texts whole; what it lacks raises an error."""
    kind = output["output_type"]
    if kind == "stream":
        return output | {"text": text(output["text"])}
    if kind == "error":
        return output | {"traceback": [text(line) for line in output["traceback"]]}
    data = {
        key: value if key.endswith("json") else text(value)
        for key, value in output["data"].items()
    }
    return output | {"data": data}


def whole(notebook: dict) -> dict:
    """The notebook with its texts whole; an error where it is none."""
    if notebook["nbformat"] != 4:
        raise ValueError(f"its format is {notebook['nbformat']!r:.20}, not 4")
    for cell in notebook["cells"]:
        cell["source"] = text(cell["source"])
        cell["metadata"] = dict(cell["metadata"])
        if cell["cell_type"] == "code":
            cell["outputs"] = [tidy_output(output) for output in cell["outputs"]]
            cell.setdefault("execution_count", None)
    notebook["metadata"] = dict(notebook["metadata"])
    return notebook


def read(path: Path) -> dict:
    """Reads a notebook, its texts whole; ValueError with a phrase if it is none."""
    try:
        return whole(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
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
    """The plain text of an output: a stream's, or what stands beside a richer form."""
    if output["output_type"] == "stream":
        return output["text"]
    if output["output_type"] == "error":
        return "\n".join(output["traceback"])
    return output["data"].get("text/plain", "")


def results(notebook: dict) -> dict[str, list[dict[str, str]]]:
    """The closing table, see COLUMNS; ValueError with a phrase where it cannot be read."""
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    tables = [o["data"][RESULTS] for o in outputs if RESULTS in o.get("data", ())]
    if not tables:
        raise ValueError("shows no closing table")
    table = tables[-1]
    if not isinstance(table, dict) or set(table) != set(COLUMNS):
        raise ValueError(f"has a closing table without {' and '.join(COLUMNS)}")
    for kind, columns in COLUMNS.items():
        for row in table[kind]:
            if not (
                isinstance(row, dict)
                and set(row) == set(columns)
                and all(isinstance(value, str) and value for value in row.values())
                and row["verdict"] in VERDICTS[kind]
            ):
                raise ValueError(f"has a row in its closing table unlike others: {row}")
    if not table["measures"]:
        raise ValueError("has a closing table without a measure")
    return {  # in the order of COLUMNS, which files do not keep
        kind: [{column: row[column] for column in columns} for row in table[kind]]
        for kind, columns in COLUMNS.items()
    }


def missed(table: dict) -> list[str]:
    """The measures that miss what the assignment asks."""
    return [row["measure"] for row in table["measures"] if row["verdict"] == "FAIL"]


def checksum(parts: list) -> str:
    """SHA-256 of texts, blind to line ends and to blanks at the ends of lines."""
    tidied = ("\n".join(map(str.rstrip, part.strip().splitlines())) for part in parts)
    return hashlib.sha256("\0".join(tidied).encode()).hexdigest()


def code_checksum(notebook: dict) -> str:
    """Of the code cells' sources: no front end changes these by itself."""
    return checksum([cell["source"] for cell in code_cells(notebook)])


def outputs_checksum(notebook: dict) -> str:
    """Of printed text and pictures, whatever pieces a front end puts them in.

    The runner compresses pictures anew, so a run in a front end never has its bytes.
    """
    parts = []
    for cell in code_cells(notebook):
        streams = [o["text"] for o in cell["outputs"] if o["output_type"] == "stream"]
        parts.append("".join(streams))
        data = [output.get("data", {}) for output in cell["outputs"]]
        parts += [d[k] for d in data for k in ("text/plain", "image/png") if k in d]
    return checksum(parts)


def is_outdated(notebook: dict) -> bool:
    """Whether the code was edited since the runner made the outputs that it still has."""
    stamp = notebook["metadata"].get("run")
    return (
        isinstance(stamp, dict)
        and {"code", "outputs"} <= set(stamp)
        and stamp["code"] != code_checksum(notebook)
        and stamp["outputs"] == outputs_checksum(notebook)
    )


def faults(notebook: dict) -> list[str]:
    """Why a notebook is not fit to be handed in, a phrase each; [] if it is."""
    cells = code_cells(notebook)
    counts = [cell["execution_count"] for cell in cells]
    found = []
    if set(counts) == {None} and any(cell["outputs"] for cell in cells):
        found.append("has lost its counts, as Colab drops them when its session ends")
    elif None in counts:
        number = counts.index(None) + 1
        found.append(f"has a cell that was never run (code cell {number})")
    elif counts != list(range(1, len(cells) + 1)):
        found.append("was not run from top to bottom in a fresh kernel")
    elif is_outdated(notebook):
        found.append("has code that was edited and not run again")
    for number, cell in enumerate(cells, 1):
        errors = [o for o in cell["outputs"] if o["output_type"] == "error"]
        found += [f"ends in {o.get('ename')} in code cell {number}" for o in errors]
    for number, cell in enumerate(notebook["cells"], 1):
        if word := UNFINISHED.search(cell["source"]):
            found.append(f"still holds a {word[0]} in cell {number}")
    try:
        table = results(notebook)
    except ValueError as error:
        return [*found, str(error)]
    verdicts = [row["verdict"] for rows in table.values() for row in rows]
    if "stand-in" in verdicts:
        found.append("holds results from stand-in data, not from the real pictures")
    if names := missed(table):
        found.append(f"misses what the assignment asks ({', '.join(names)})")
    return found

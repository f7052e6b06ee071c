"""submit.py NETID: packs NETID.zip, the five files to submit, or says why it does not.

Needs only Python, 3.8 or newer. An earlier archive stays until a good one is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path

NAMES = ("hw2_moe", "hw2_cnn", "hw2_rnn", "seq_classification")
NOTEBOOKS = [f"{name}.ipynb" for name in NAMES]
PDF, TEX = "hw2_theory.pdf", "hw2_theory.tex"
STAND_IN = "STAND-IN DATA"  # what hw2_cnn prints where it found no photographs
UNFINISHED = re.compile(r"^(?:<{7} |.*\b(?:TODO|FIXME)\b).*$", re.MULTILINE)


def read(content: bytes) -> dict:
    """Reads a notebook as strictly as Jupyter, in format 4.5; or raises ValueError."""
    try:
        notebook = json.loads(content.decode("utf-8"), parse_constant=int)  # no NaN
        json.dumps(notebook, ensure_ascii=False).encode("utf-8")  # no half characters
        if notebook["nbformat"] != 4:
            raise ValueError(f"its format is {notebook['nbformat']}")
        notebook["metadata"].get("run", {}).get("pictures", 0) + 0  # a number
        notebook["nbformat_minor"] = 5
        for number, cell in enumerate(notebook["cells"]):
            cell["source"] = "".join(cell["source"])
            cell.setdefault("id", f"cell-{number}")  # which some front ends drop
            cell["metadata"].get("tags")  # so it is a dict
            for output in cell["outputs"] if cell["cell_type"] == "code" else ():
                "".join(output.get("traceback", ""))  # all strings
                if output["output_type"] == "stream":
                    output["text"] = "".join(output["text"])
                for kind, value in output.get("data", {}).items():
                    output["data"][kind] = value if "json" in kind else "".join(value)
    except Exception as error:  # noqa: BLE001 - whatever a broken file leads to
        raise ValueError(f"no notebook for Jupyter: {error!r:.120}") from None
    return notebook


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def code_cells(notebook: dict) -> list[dict]:
    """The code cells that hold anything, in order."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    return [cell for cell in cells if cell["source"].strip()]


def quote(text: str) -> str:
    """Its first line: so a cell is named, as no front end shows a cell's number."""
    return f"`{(text.strip() or 'empty').splitlines()[0]:.60}`"


def shown(cells: list[dict], kind: str) -> list[str]:
    """What code cells show of a kind (text/, image/, error), piece by piece."""
    found = []
    for output in (output for cell in cells for output in cell["outputs"]):
        error = "\n".join(output.get("traceback", ())) or output.get("ename")
        plain = {"text/plain": output.get("text"), "error": error}
        for key, value in sorted(output.get("data", plain).items()):
            if key.startswith(kind) and value:
                found.append(str(value))
    return found


def stamp(notebook: dict) -> dict:
    """What tells an edit from a run, blind to how a front end lays out a file."""
    cells = code_cells(notebook)
    made = {"pictures": len(shown(cells, "image/"))}
    sources = [cell["source"].strip() for cell in cells]
    outputs = ["".join("".join(shown([cell], "")).split()) for cell in cells]
    for key, texts in ("code", sources), ("outputs", outputs):
        made[key] = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    return made


def faults(notebook: dict) -> list[str]:
    """Why a notebook is not fit to be handed in, each to be read after its name."""
    cells, run = code_cells(notebook), notebook["metadata"].get("run", {})
    now, counts = stamp(notebook), [cell.get("execution_count") for cell in cells]
    same_code, same_outputs = (run.get(key) == now[key] for key in ("code", "outputs"))
    pictures = run.get("pictures", 0) if same_code else "matplotlib" in str(cells)
    found = []
    if not cells:
        found.append("holds no code")
    elif None in counts:
        cell = quote(cells[counts.index(None)]["source"])
        found.append(f"has a cell that was not run, or lost its count ({cell})")
    elif counts != [*range(1, len(cells) + 1)]:
        found.append("was not run from top to bottom in a fresh kernel")
    elif same_outputs and not same_code:
        found.append("was edited and not run again")
    elif now["pictures"] < pictures:
        found.append("has lost figures")
    if STAND_IN in "".join(shown(cells, "text/")):
        found.append("was run on stand-in data, without photographs and network")
    for cell in notebook["cells"]:
        if cell in cells and shown([cell], "error"):
            found.append(f"holds an error below {quote(cell['source'])}")
        if unfinished := UNFINISHED.search(cell["source"]):
            found.append(f"is unfinished ({quote(unfinished[0])})")
    return found


def judge(files: dict[str, bytes]) -> list[str]:
    """Reads the files → what is wrong, a sentence each that ends with the next command."""
    found, codes = [], {}
    for path in map(Path, (TEX, PDF, *NOTEBOOKS)):
        name = path.name
        cure = "run `make pdf`" if name == PDF else f"mend it, or `git checkout {name}`"
        again = f"*Restart and Run All*, save; or `make execute NOTEBOOKS={name}`"
        try:
            files[name] = path.read_bytes()
            for copy in Path().glob(f"*{path.stem}*{path.suffix}"):
                if copy.lstat().st_mtime > path.stat().st_mtime:
                    found.append(f"{name} is older than {copy}: rename or remove that")
            if name in NOTEBOOKS:
                notebook = read(files[name])
                if (other := codes.setdefault(stamp(notebook)["code"], name)) != name:
                    found.append(f"{name} has the same code as {other}: {cure}")
                found += [f"{name} {fault}: {again}" for fault in faults(notebook)]
        except (OSError, ValueError) as error:
            found.append(f"{name} cannot be read ({error}): {cure}")
    source, paper = (files.get(name, b"") for name in (TEX, PDF))
    md5 = hashlib.md5(source).hexdigest().upper().encode()
    for line in UNFINISHED.findall(source.decode("utf-8", "replace")):
        found.append(f"{TEX} is unfinished ({quote(line)}): mend it and run `make pdf`")
    if {TEX, PDF} <= {*files} and md5 not in paper:
        found.append(f"{PDF} was not built from the present {TEX}: run `make pdf`")
    return found


def main() -> str:
    """Packs the archive → why it did not, or nothing."""
    netid, files, archive = " ".join(sys.argv[1:]), {}, io.BytesIO()
    if not re.fullmatch("[a-z]{1,8}[0-9]{1,8}", netid):
        return f"{netid!r} is no NetID: run `make zip NETID=ab1234` with yours."
    if not any(os.path.exists(name) for name in (TEX, PDF, *NOTEBOOKS)):
        return f"Nothing to pack is in {os.getcwd()}: change to the project's folder."
    if found := judge(files):
        return ".\n".join([*found, ""]).strip()
    with zipfile.ZipFile(archive, "w") as out:
        for name in sorted((PDF, *NOTEBOOKS)):
            entry = zipfile.ZipInfo(name)  # of 1 January 1980, as no date is given
            entry.external_attr = 0o100644 << 16
            out.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 9)
    try:
        write(Path(f"{netid}.zip"), archive.getvalue())
    except OSError as error:
        return f"{netid}.zip cannot be written: {error.strerror}."
    print(f"{netid}.zip: {archive.tell() / 1e6:.2f} MB, five files")
    return ""


if __name__ == "__main__":
    sys.exit(main() or 0)

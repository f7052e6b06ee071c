"""make_zip.py NETID: packs NETID.zip, the five files to submit, or says why it cannot.

The archive is flat and the same bytes each time: fixed order, dates and permissions.
An earlier archive is replaced only by a good one.
"""

import os
import re
import sys
import zipfile
from pathlib import Path

import notebooks
from build_pdf import pdf_checksum, source_checksum

THEORY = "hw2_theory.pdf"
NOTEBOOKS = (
    "hw2_moe.ipynb",
    "hw2_cnn.ipynb",
    "hw2_rnn.ipynb",
    "seq_classification.ipynb",
)
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip entry can bear


def netid_problem(netid: str) -> str | None:
    """What is wrong with a NetID, or None."""
    if not netid:
        return "no NetID given: run `make zip NETID=ab1234` with yours"
    if netid == "your_net_id":
        return "NETID=your_net_id is the placeholder: put your own, as in NETID=ab1234"
    if not re.fullmatch(r"[a-z]{1,8}[0-9]{1,8}", netid):
        return (
            f"NETID={netid!r} is not a NetID: it takes lower-case letters, then digits,"
            " as in NETID=ab1234"
        )
    return None


def theory_problem(pdf: Path, tex: Path) -> str | None:
    """What is wrong with the theory PDF, or None."""
    if not pdf.is_file():
        return f"{pdf.name} is missing: run `make pdf`"
    try:
        built_from = pdf_checksum(pdf)
    except ValueError as error:
        return f"{error}: run `make pdf`"
    if not tex.is_file():
        return f"{tex.name} is missing, so {pdf.name} cannot be checked against it"
    if built_from != source_checksum(tex):
        return f"{pdf.name} was not built from the present {tex.name}: run `make pdf`"
    return None


def notebook_problems(path: Path) -> list[str]:
    """What is wrong with a notebook, a sentence each."""
    if not path.is_file():
        return [f"{path.name} is missing: restore it, then run `make execute`"]
    try:
        notebook = notebooks.read(path)
    except ValueError as error:
        return [f"{error}: restore it, then run `make execute`"]
    cure = {"TODO": "finish it, then run `make execute`"}
    cure["stand-in"] = (
        "run `make execute` where the images or the network can be reached"
    )
    return [
        f"{path.name} {fault}: "
        + next((cure[key] for key in cure if key in fault), "run `make execute`")
        for fault in notebooks.faults(notebook)
    ]


def pack(folder: Path, netid: str) -> Path:
    """Writes the archive beside the files; an earlier one stays until this is whole."""
    archive = folder / f"{netid}.zip"
    partial = folder / f".{netid}.zip.partial"
    try:
        with zipfile.ZipFile(
            partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9
        ) as out:
            for name in sorted((THEORY, *NOTEBOOKS)):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = 3  # Unix, wherever it is packed
                entry.external_attr = 0o100644 << 16
                out.writestr(entry, (folder / name).read_bytes())
        os.replace(partial, archive)
    finally:
        partial.unlink(missing_ok=True)
    return archive


def main() -> int:
    netid = sys.argv[1] if len(sys.argv) > 1 else ""
    folder = Path.cwd()
    if problem := netid_problem(netid):
        print(f"make zip: {problem}.", file=sys.stderr)
        return 1
    problems = [theory_problem(folder / THEORY, folder / "hw2_theory.tex")]
    problems += [p for name in NOTEBOOKS for p in notebook_problems(folder / name)]
    problems = [problem for problem in problems if problem]
    for problem in problems:
        print(f"make zip: {problem}.", file=sys.stderr)
    if problems:
        return 1
    try:
        archive = pack(folder, netid)
    except OSError as error:
        reason = error.strerror or error
        print(f"make zip: {netid}.zip cannot be written: {reason}.", file=sys.stderr)
        return 1
    print(f"{archive.name}: {archive.stat().st_size / 1e6:.2f} MB, 5 files")
    return 0


if __name__ == "__main__":
    sys.exit(main())

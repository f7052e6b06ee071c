"""make_zip.py NETID: packs NETID.zip, the five files to submit, or says why it cannot.

The archive is flat and the same bytes each time: fixed order, dates and permissions.
An earlier archive is replaced only by a good one. Needs Python alone, no packages.
"""

import io
import re
import sys
import zipfile
from pathlib import Path

import notebooks
from build_pdf import PDF, TEX, pdf_problems

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip entry can bear


def netid_problems(netid: str) -> list[str]:
    """What is wrong with a NetID, a sentence each."""
    yours = "your own, lower-case letters and then digits"
    if not netid:
        return [f"no NetID given: run `make zip NETID=your_net_id` with {yours}"]
    if not re.fullmatch(r"[a-z]{1,8}[0-9]{1,8}", netid):
        return [f"NETID={netid!r} is not a NetID: put {yours}"]
    return []


def notebook_problems(name: str, codes: dict[str, str]) -> list[str]:
    """What is wrong with a notebook, a sentence each; `codes` knows those before it."""
    try:
        notebook = notebooks.read(Path(name))
    except ValueError as error:
        return [f"{name} {error}: restore it (`git checkout {name}`)"]
    faults = notebooks.faults(notebook)
    other = codes.setdefault(notebooks.checksums(notebook)["code"], name)
    if other != name:
        faults.append(f"has the same code as {other}: restore the one you overwrote,")
    cure = f"*Restart and Run All* and save it, or `make execute NOTEBOOKS={name}`"
    return [f"{name} {fault} {cure}" for fault in faults]


def pack(archive: Path) -> int:
    """Writes the archive → its size; an earlier one stays until this is whole."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name in sorted((PDF.name, *notebooks.NOTEBOOKS)):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is packed
            entry.external_attr = 0o100644 << 16
            out.writestr(entry, Path(name).read_bytes())
    notebooks.replace(archive, packed.getvalue())
    return archive.stat().st_size


def main() -> int:
    netid, codes = sys.argv[1], {}
    problems = netid_problems(netid)
    if not problems:
        problems = pdf_problems(PDF, TEX)
        for name in notebooks.NOTEBOOKS:
            problems += notebook_problems(name, codes)
    try:
        size = 0 if problems else pack(Path(f"{netid}.zip"))
    except OSError as error:
        problems = [f"{netid}.zip cannot be written: {error.strerror or error}"]
    for problem in problems:
        print(f"make zip: {problem}.", file=sys.stderr)
    if not problems:
        print(f"{netid}.zip: {size / 1e6:.2f} MB, 5 files")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

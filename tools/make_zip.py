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
    with zipfile.ZipFile(packed, "w") as out:
        for name in sorted((PDF.name, *notebooks.NOTEBOOKS)):
            entry = zipfile.ZipInfo(name)  # of 1 January 1980, as no date is given
            entry.create_system = 3  # Unix, wherever it is packed
            entry.external_attr = 0o100644 << 16
            out.writestr(entry, Path(name).read_bytes(), zipfile.ZIP_DEFLATED, 9)
    notebooks.replace(archive, packed.getvalue())
    return archive.stat().st_size


def main() -> int:
    netid, codes = sys.argv[1], {}
    if re.fullmatch(r"[a-z]{1,8}[0-9]{1,8}", netid):
        problems = pdf_problems(PDF, TEX)
        for name in notebooks.NOTEBOOKS:
            problems += notebook_problems(name, codes)
    else:
        given = f"NETID={netid!r} is not a NetID" if netid else "no NetID given"
        cure = "run `make zip NETID=your_net_id`, lower-case letters and then digits"
        problems = [f"{given}: {cure}"]
    if not problems:
        try:
            size = pack(Path(f"{netid}.zip")) / 1e6
            print(f"{netid}.zip: {size:.2f} MB, 5 files")
        except OSError as error:
            problems = [f"{netid}.zip cannot be written: {error.strerror or error}"]
    for problem in problems:
        print(f"make zip: {problem}.", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

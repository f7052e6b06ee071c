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
FIRST = {  # a word of a fault → what to do before the notebook is run again
    "still holds": "finish it",
    "ends in": "mend it",
    "misses": "improve it",
    "closing table": "restore its last cells",
    "stand-in": "see to it that the pictures or the network can be reached",
    "same code": "restore the one that was overwritten",
}


def netid_problem(netid: str) -> str | None:
    """What is wrong with a NetID, or None."""
    yours = "your own, lower-case letters and then digits"
    if not netid:
        return f"no NetID given: run `make zip NETID=your_net_id` with {yours}"
    if netid == "your_net_id":
        return f"NETID=your_net_id is the placeholder: put {yours}"
    if not re.fullmatch(r"[a-z]{1,8}[0-9]{1,8}", netid):
        return f"NETID={netid!r} is not a NetID: put {yours}"
    return None


def notebook_problems(name: str, codes: dict[str, str]) -> list[str]:
    """What is wrong with a notebook, a sentence each; `codes` knows those before it."""
    try:
        notebook = notebooks.read(Path(name))
    except ValueError as error:
        return [f"{name} {error}: restore it (`git checkout {name}`)"]
    faults = notebooks.faults(notebook)
    other = codes.setdefault(notebooks.code_checksum(notebook), name)
    if other != name:
        faults.append(f"has the same code as {other}")
    cure = f"*Restart and Run All*, save it, or `make execute NOTEBOOKS={name}`"
    sentences = []
    for fault in faults:
        first = [f"{FIRST[word]}, then " for word in FIRST if word in fault]
        sentences.append(f"{name} {fault}: {''.join(first)}{cure}")
    return sentences


def pack(netid: str) -> Path:
    """Writes the archive beside the files; an earlier one stays until this is whole."""
    archive, packed = Path(f"{netid}.zip"), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name in sorted((PDF.name, *notebooks.NOTEBOOKS)):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is packed
            entry.external_attr = 0o100644 << 16
            out.writestr(entry, Path(name).read_bytes())
    notebooks.replace(archive, packed.getvalue())
    return archive


def main() -> int:
    netid, codes = sys.argv[1] if len(sys.argv) > 1 else "", {}
    if problem := netid_problem(netid):
        problems = [problem]
    else:
        problems = pdf_problems(PDF, TEX)
        for name in notebooks.NOTEBOOKS:
            problems += notebook_problems(name, codes)
    if not problems:
        try:
            archive = pack(netid)
        except OSError as error:
            reason = error.strerror or error
            problems = [f"{netid}.zip cannot be written: {reason}"]
    for problem in problems:
        print(f"make zip: {problem}.", file=sys.stderr)
    if problems:
        return 1
    print(f"{archive}: {archive.stat().st_size / 1e6:.2f} MB, 5 files")
    return 0


if __name__ == "__main__":
    sys.exit(main())

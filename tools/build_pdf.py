"""build_pdf.py: builds hw2_theory.pdf from hw2_theory.tex, the same bytes each time.

The PDF carries the SHA-256 of the source that it was built from, in plain text. An
earlier PDF is replaced only by one whose build left no error and no warning. Needs Python
alone, and TeX, which it installs where it can.
"""

import hashlib
import os
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import notebooks

TEX, PDF = Path("hw2_theory.tex"), Path("hw2_theory.pdf")
KEY = "/SourceSHA256"
PACKAGES = "latexmk texlive-latex-recommended texlive-pictures lmodern"
INSTALL = f"apt-get install -y --no-install-recommends {PACKAGES}"
PROGRAMS = ("latexmk", "pdflatex", "kpsewhich")
STYLES = ("lmodern.sty", "microtype.sty", "mathtools.sty", "pgfplots.sty")
LATEXMK = "latexmk -norc -pdf -interaction=nonstopmode -halt-on-error -file-line-error"
REPEATABLE = {
    "SOURCE_DATE_EPOCH": "1740459540",  # the date that the PDF bears: 25 February 2025
    "FORCE_SOURCE_DATE": "1",  # \today and \year as well
    "TZ": "UTC",
    "max_print_line": "10000",  # a message stays on one line of the log
}


def source_checksum(tex: Path) -> str:
    """SHA-256 of a source file, the same whether its lines end in LF or CRLF."""
    return hashlib.sha256(tex.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def pdf_checksum(pdf: Path) -> str:
    """SHA-256 of the source that a PDF was built from; "" where it carries none."""
    found = re.search(KEY.encode() + rb" *\((\w*)\)", pdf.read_bytes())
    return found[1].decode() if found else ""


def pdf_objects(content: bytes) -> bytes:
    """A PDF's bytes, and after them what its compressed streams hold."""
    parts = [content]
    for start in re.finditer(rb"stream\r?\n", content):
        try:
            parts.append(zlib.decompressobj().decompress(content[start.end() :]))
        except zlib.error:
            continue  # a stream of another kind
    return b"\n".join(parts)


def pdf_problems(pdf: Path, tex: Path) -> list[str]:
    """What is wrong with the PDF or its source, a sentence each."""
    try:
        source = tex.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        return [f"{tex} cannot be read ({error}): restore it (`git checkout {tex}`)"]
    if word := notebooks.UNFINISHED.search(source):
        line = source.count("\n", 0, word.start()) + 1
        return [f"{tex} still holds a {word[0]} in line {line}: finish it, `make pdf`"]
    try:
        objects = pdf_objects(pdf.read_bytes())
    except OSError as error:
        return [f"{pdf} cannot be read ({error.strerror}): run `make pdf`"]
    if pdf_checksum(pdf) != source_checksum(tex):
        return [f"{pdf} was not built from the present {tex}: run `make pdf`"]
    questions = re.findall(r"(?m)^\\question\{(.*?)\}", source)
    marks = [re.sub(r"([()])", r"\\\1", question) for question in questions]
    lost = [mark for mark in marks if f"({mark}.".encode() not in objects]
    if lost or not re.search(rb"/Type ?/Page\b", objects):
        return [f"{pdf} lacks pages or the answer to a question: run `make pdf`"]
    return []


def missing_tex() -> list[str]:
    """The programs and style files that the build needs and this machine lacks."""
    if programs := [name for name in PROGRAMS if shutil.which(name) is None]:
        return programs
    found = subprocess.run(["kpsewhich", *STYLES], stdout=subprocess.PIPE, check=False)
    return [style for style in STYLES if style.encode() not in found.stdout]


def provide_tex() -> None:
    """Installs what is missing where it can (root and apt-get), else says how."""
    if not (missing := missing_tex()):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing TeX, once: {PACKAGES}", flush=True)
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        for step in "apt-get update", INSTALL:  # on stderr they say why they fail
            subprocess.run(step.split(), check=False, stdout=subprocess.DEVNULL)
        missing = missing_tex()
    if missing:
        cure = f"run `sudo apt-get update && sudo {INSTALL}`"
        raise SystemExit(f"TeX lacks {', '.join(missing)}: {cure}")


def first_error(log: str, name: str) -> str:
    """The line of the log with the error that stopped TeX, and the place it names."""
    error = re.search(r"(?m)^(?:! |\S+?:\d+: ).*", log)
    if not error:
        return f"{name}: TeX stopped without a message"
    place = re.search(r"(?m)^l\.\d+ .*", log[error.start() :])
    return f"{name}: {error[0]}" + (f" at `{place[0].strip()}`" if place else "")


def complaints(log: str) -> list[str]:
    """Every warning of the log and every box more than 1 pt too full, a line each."""
    warning = r"(?:LaTeX|Package|Class|pdfTeX)\b[^:\n]*[Ww]arning.*|Missing character.*"
    overfull = r"Overfull .*?\((?:[1-9]|\d{2,})\.\d+pt too .*"
    lines = re.findall(f"(?m)^(?:{warning}|{overfull})", log)
    return [" ".join(line.split()) for line in dict.fromkeys(lines)]


def build(tex: Path, pdf: Path, work: Path) -> None:
    """Builds `pdf` from `tex` in the folder `work`, which is emptied first."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    checksum = source_checksum(tex)
    (work / tex.name).write_bytes(tex.read_bytes().replace(b"\r\n", b"\n"))
    (work / "checksum.tex").write_text(rf"\pdfinfo{{{KEY} ({checksum})}}" + "\n")
    run = subprocess.run(
        [*LATEXMK.split(), tex.name],
        check=False,
        cwd=work,
        env=os.environ | REPEATABLE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    (work / f"{tex.stem}.log").touch()
    log = (work / f"{tex.stem}.log").read_text(errors="replace")
    if run.returncode:
        raise SystemExit(first_error(log, tex.name))
    if found := complaints(log):
        raise SystemExit("\n".join([*found, f"{pdf.name} was left as it was"]))
    built = work / f"{tex.stem}.pdf"
    if pdf_checksum(built) != checksum:
        raise SystemExit(rf"{tex.name} does not read checksum.tex: restore its \input")
    os.replace(built, pdf)


def main() -> None:
    provide_tex()
    try:
        build(TEX, PDF, Path("build/pdf"))
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}") from None
    print(f"{PDF}: {PDF.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

"""build_pdf.py: builds hw2_theory.pdf from hw2_theory.tex, the same bytes each time.

`build_pdf.py tex` only sees to it that TeX is there; any Python will do for that.

The PDF's information dictionary carries the SHA-256 of the source that it was built from.
An earlier PDF is replaced only by one whose build left no error and no warning.
"""

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "hw2_theory"
KEY = "/SourceSHA256"
PACKAGES = "latexmk texlive-latex-recommended texlive-pictures lmodern"
INSTALL = f"apt-get install -y --no-install-recommends {PACKAGES}"
PROGRAMS = ("latexmk", "pdflatex", "kpsewhich")
STYLES = ("lmodern.sty", "microtype.sty", "mathtools.sty", "pgfplots.sty")
REPEATABLE = {
    "SOURCE_DATE_EPOCH": "1740459540",  # the date that the PDF bears: 25 February 2025
    "FORCE_SOURCE_DATE": "1",  # \today and \year as well
    "TZ": "UTC",
    "max_print_line": "10000",  # a message stays on one line of the log
}


def source_checksum(tex: Path) -> str:
    """SHA-256 of a source file, the same whether its lines end in LF or CRLF."""
    return hashlib.sha256(tex.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def pdf_checksum(pdf: Path) -> str | None:
    """SHA-256 of the source that a PDF was built from; None where it carries none."""
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # one sentence is enough
    try:
        value = (pypdf.PdfReader(pdf).metadata or {}).get(KEY)
    except Exception as error:  # pypdf lets many kinds through on a damaged file
        raise ValueError(f"{pdf.name} cannot be read as a PDF") from error
    return None if value is None else str(value)


def missing_tex() -> list[str]:
    """The programs and style files that the build needs and this machine lacks."""
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    if programs:
        return programs
    return [
        style
        for style in STYLES
        if subprocess.run(
            ["kpsewhich", style], check=False, stdout=subprocess.DEVNULL
        ).returncode
    ]


def provide_tex() -> None:
    """Installs what is missing where it can (root and apt-get), else says how."""
    missing = missing_tex()
    if not missing:
        return
    command = f"sudo apt-get update && sudo {INSTALL}"
    advice = f"TeX lacks {', '.join(missing)}: run `{command}`"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(advice)
    print(f"installing TeX, once: {PACKAGES}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in ("apt-get update", INSTALL):
        done = subprocess.run(
            step.split(), check=False, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise SystemExit(f"`{step}` failed ({reason}); {advice}")
    if missing_tex():
        raise SystemExit(f"TeX still lacks {', '.join(missing_tex())}: run `{command}`")


def first_error(log: str, name: str) -> str:
    """One sentence for the error that stopped TeX: file, line, message, place."""
    found = re.search(r"(?m)^(?:! |\S+?:\d+: )(.*)", log)
    if not found:
        return f"{name}: TeX stopped without a message"
    message = found[1].rstrip(".:")
    line = re.search(r"(?m)^l\.(\d+) *(.*?) *$", log[found.start() :])
    if line:
        place = f" at `{line[2]}`" if line[2] else ""
        return f"{name}, line {line[1]}: {message}{place}"
    runaway = re.search(r"(?m)^Runaway .*\n(.{1,40})", log[: found.start()])
    if message == "Emergency stop":
        message = r"no \end{document}"
    since = f", since `{runaway[1]}`" if runaway else ""
    return f"{name}, at its end: {message}{since}"


def complaints(log: str) -> list[str]:
    """Every warning of the log and every box more than 1 pt too full, a line each."""
    warning = (
        r"(?m)^(?:LaTeX|Package|Class|pdfTeX)\b[^:]*[Ww]arning.*|^Missing character.*"
    )
    overfull = r"(?m)^(Overfull .*?\((\d+\.\d+)pt too .*)"
    lines = re.findall(warning, log)
    lines += [line for line, points in re.findall(overfull, log) if float(points) > 1]
    return [" ".join(line.split()) for line in dict.fromkeys(lines)]


def build(tex: Path, pdf: Path, work: Path) -> None:
    """Builds `pdf` from `tex` in the folder `work`, which is emptied first."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    checksum = source_checksum(tex)
    (work / tex.name).write_bytes(tex.read_bytes().replace(b"\r\n", b"\n"))
    (work / "checksum.tex").write_text(rf"\pdfinfo{{{KEY} ({checksum})}}" + "\n")
    command = (
        "latexmk -norc -pdf -interaction=nonstopmode -halt-on-error -file-line-error"
    )
    run = subprocess.run(
        [*command.split(), tex.name],
        check=False,
        cwd=work,
        env=os.environ | REPEATABLE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    log_file = work / f"{tex.stem}.log"
    log = log_file.read_text(errors="replace") if log_file.is_file() else ""
    if run.returncode:
        raise SystemExit(first_error(log, tex.name))
    if found := complaints(log):
        raise SystemExit("\n".join([*found, f"{pdf.name} was left as it was"]))
    built = work / f"{tex.stem}.pdf"
    if pdf_checksum(built) != checksum:
        raise SystemExit(rf"{tex.name} does not read checksum.tex: restore its \input")
    os.replace(built, pdf)


def main() -> None:
    tex, pdf = ROOT / f"{NAME}.tex", ROOT / f"{NAME}.pdf"
    if not tex.is_file():
        raise SystemExit(f"{tex.name} is missing: restore it")
    provide_tex()
    if sys.argv[1:] == ["tex"]:
        return
    build(tex, pdf, ROOT / "build" / "pdf")
    print(f"{pdf.name}: {pdf.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    sys.exit(main())

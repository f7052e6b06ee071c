"""tools/build_pdf.py: the checksums, the verdict on a log, and whole builds where TeX is."""

import os
import shutil
import subprocess
import sys

import build_pdf
import pytest
from conftest import ROOT

needs_tex = pytest.mark.skipif(shutil.which("latexmk") is None, reason="TeX is missing")
PAPER = r"""\documentclass{article}
\pdftrailerid{}\pdfsuppressptexinfo=-1
\InputIfFileExists{checksum}{}{}
\begin{document}
\today: %s
\end{document}
"""


@pytest.fixture
def paper(tmp_path):
    """Writes a small paper with the given body and returns source, PDF, work folder."""

    def write(body: str):
        tex = tmp_path / "paper.tex"
        tex.write_text(PAPER % body)
        return tex, tmp_path / "paper.pdf", tmp_path / "build" / "pdf"

    return write


def refusal(paper: tuple) -> str:
    """What a failing build says; an earlier PDF must outlive it."""
    paper[1].write_bytes(b"earlier")
    with pytest.raises(SystemExit) as stop:
        build_pdf.build(*paper)
    assert paper[1].read_bytes() == b"earlier"
    return str(stop.value)


def test_checksum_does_not_see_line_ends(tmp_path):
    unix, dos, other = (tmp_path / name for name in ("unix", "dos", "other"))
    unix.write_bytes(b"a\nb\n")
    dos.write_bytes(b"a\r\nb\r\n")
    other.write_bytes(b"a\nc\n")
    sums = [build_pdf.source_checksum(path) for path in (unix, dos, other)]
    assert sums[0] == sums[1] != sums[2]


def test_committed_pdf_belongs_to_the_committed_source():
    """Needs no TeX: `make pdf` was run after the last change of hw2_theory.tex."""
    tex, pdf = ROOT / "hw2_theory.tex", ROOT / "hw2_theory.pdf"
    assert build_pdf.pdf_problems(pdf, tex) == []


def test_error_is_the_line_of_the_log_and_the_place():
    log = "This is pdfTeX\n./a.tex:7: Undefined control sequence.\nl.7 text \\fooo\n  more\n"
    told = "a.tex: ./a.tex:7: Undefined control sequence. at `l.7 text \\fooo`"
    assert build_pdf.first_error(log, "a.tex") == told
    told = "a.tex: ! File ended while scanning use of \\x."
    assert build_pdf.first_error(f"Runaway argument?\n{told[7:]}\n", "a.tex") == told
    assert build_pdf.first_error("", "a.tex") == "a.tex: TeX stopped without a message"


def test_warnings_and_wide_boxes_are_complaints():
    harmless = [
        "Package: infwarerr 2019/12/03 Providing info/warning/error messages",
        r"Overfull \hbox (0.9pt too wide) in paragraph at lines 1--2",
        r"Underfull \hbox (badness 1000) in paragraph at lines 1--2",
    ]
    complaints = [
        "LaTeX Warning: Reference `a' on page 1 undefined on input line 3.",
        "LaTeX Font Warning: Font shape `T1/x' undefined",
        "Package hyperref Warning: Token not allowed in a PDF string",
        "pdfTeX warning (ext4): destination with the same identifier",
        "Missing character: There is no x in font y!",
        r"Overfull \hbox (1.1pt too wide) in paragraph at lines 1--2",
        r"Overfull \vbox (20.0pt too high) has occurred while \output is active",
    ]
    assert build_pdf.complaints("\n".join(harmless)) == []
    assert build_pdf.complaints("\n".join(harmless + complaints)) == complaints


@needs_tex
def test_two_builds_are_the_same_bytes(paper, tmp_path, monkeypatch):
    first = paper("body")
    build_pdf.build(*first)
    assert build_pdf.pdf_checksum(first[1]) == build_pdf.source_checksum(first[0])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    tex = elsewhere / "paper.tex"
    tex.write_bytes(first[0].read_bytes().replace(b"\n", b"\r\n"))
    second = tex, elsewhere / "other.pdf", elsewhere / "work"
    build_pdf.build(*second)
    assert first[1].read_bytes() == second[1].read_bytes()
    assert str(tmp_path).encode() not in first[1].read_bytes()


@needs_tex
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (r"\fooo", r"paper.tex:5: Undefined control sequence. at `l.5 \today: \fooo`"),
        (r"\ref{nowhere}", "Reference `nowhere' on page 1 undefined"),
        (r"\hbox to 100pt{}\noindent\rule{999pt}{1pt}", "too wide"),
    ],
)
def test_errors_and_warnings_leave_the_earlier_pdf(paper, body, told):
    assert told in refusal(paper(body))


@needs_tex
def test_a_source_that_drops_the_checksum_is_refused(paper):
    tex, pdf, work = paper("body")
    tex.write_text(tex.read_text().replace(r"\InputIfFileExists{checksum}{}{}", ""))
    assert "does not read checksum.tex" in refusal((tex, pdf, work))


@pytest.mark.parametrize(("user", "apt"), [(1000, "/usr/bin/apt-get"), (0, None)])
def test_missing_tex_gives_the_command(monkeypatch, user, apt):
    monkeypatch.setattr(shutil, "which", lambda name: apt if "apt" in name else None)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(SystemExit) as stop:
        build_pdf.provide_tex()
    told = (
        "TeX lacks latexmk, pdflatex, kpsewhich: run `sudo apt-get update && sudo apt"
    )
    assert str(stop.value).startswith(told)
    assert build_pdf.PACKAGES in str(stop.value)


def test_missing_tex_is_one_sentence_before_anything_is_set_up(tmp_path):
    done = subprocess.run(
        [shutil.which("make"), "pdf", f"PYTHON={sys.executable}", f"VENV={tmp_path}/v"],
        check=False,
        cwd=ROOT,
        env=os.environ | {"PATH": str(tmp_path)},  # neither TeX nor apt-get
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("TeX lacks latexmk")
    assert not (tmp_path / "v").exists()


def test_missing_tex_is_installed_where_it_can_be(monkeypatch):
    """As root, with apt-get: the lists are renewed, then the packages installed."""
    ran, lacks = [], iter([["latexmk"], []])
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(build_pdf, "missing_tex", lambda: next(lacks))
    monkeypatch.setattr(subprocess, "run", lambda step, **_: ran.append(step) or done)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    build_pdf.provide_tex()
    assert ran == [build_pdf.UPDATE.split(), build_pdf.INSTALL.split()]

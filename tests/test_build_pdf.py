"""tools/build_pdf.py: the checksums, the verdict on a log, and whole builds where TeX is."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import build_pdf
import pytest
from conftest import ROOT

needs_tex = pytest.mark.skipif(shutil.which("latexmk") is None, reason="TeX is missing")
PAPER = r"""\documentclass{article}
\pdftrailerid{}\pdfsuppressptexinfo=-1
\InputIfFileExists{checksum}{}{}
\begin{document}
\today: body
\end{document}
"""


@pytest.fixture
def paper(tmp_path):
    """A small paper: its source, its PDF of an earlier build, the folder to build in."""
    tex, pdf = tmp_path / "paper.tex", tmp_path / "paper.pdf"
    tex.write_text(PAPER)
    pdf.write_bytes(b"earlier")
    return tex, pdf, tmp_path / "build/pdf"


def test_committed_pdf_belongs_to_the_committed_source():
    """Needs no TeX: `make pdf` was run after the last change of hw2_theory.tex."""
    tex, pdf = ROOT / "hw2_theory.tex", ROOT / "hw2_theory.pdf"
    assert build_pdf.pdf_problems(pdf, tex) == []


def test_error_is_the_line_of_the_log_and_the_place():
    told = build_pdf.first_error
    assert told("", "a.tex") == "a.tex: TeX stopped without a message"
    assert told("Runaway argument?\n! File ended.\n", "a.tex") == "a.tex: ! File ended."
    log = "This is pdfTeX\n./a.tex:7: No x.\nl.7 text \\x\n  more\n"
    assert told(log, "a.tex") == "a.tex: ./a.tex:7: No x. at `l.7 text \\x`"


def test_warnings_and_wide_boxes_are_complaints():
    harmless = r"""Package: infwarerr 2019/12/03 Providing info/warning/error messages
Overfull \hbox (0.9pt too wide) in paragraph at lines 1--2
Underfull \hbox (badness 1000) in paragraph at lines 1--2"""
    complaints = r"""LaTeX Warning: Reference `a' on page 1 undefined on input line 3.
LaTeX Font Warning: Font shape `T1/x' undefined
pdfTeX warning (ext4): destination with the same identifier
Missing character: There is no x in font y!
Overfull \hbox (1.1pt too wide) in paragraph at lines 1--2
Overfull \vbox (20.0pt too high) has occurred while \output is active"""
    found = build_pdf.complaints(f"{harmless}\n{complaints}\n{harmless}")
    assert found == complaints.splitlines()


@needs_tex
def test_two_builds_are_the_same_bytes(paper, tmp_path, monkeypatch):
    tex, first, work = paper
    build_pdf.build(tex, first, work)
    assert build_pdf.pdf_checksum(first) == build_pdf.source_checksum(tex)
    assert str(tmp_path).encode() not in first.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    Path("paper.tex").write_bytes(tex.read_bytes().replace(b"\n", b"\r\n"))
    build_pdf.build(Path("paper.tex"), Path("other.pdf"), Path("work"))
    assert Path("other.pdf").read_bytes() == first.read_bytes()


@needs_tex
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("body", r"\fooo", r"paper.tex:5: Undefined control sequence. at `l.5 \today"),
        ("body", r"\ref{nowhere}", "Reference `nowhere' on page 1 undefined"),
        ("body", r"\noindent\rule{999pt}{1pt}", "too wide"),
        (r"\InputIfFileExists{checksum}{}{}", "", "does not read checksum.tex"),
    ],
)
def test_errors_and_warnings_leave_the_earlier_pdf(paper, old, new, told):
    paper[0].write_text(PAPER.replace(old, new))
    with pytest.raises(SystemExit, match=re.escape(told)):
        build_pdf.build(*paper)
    assert paper[1].read_bytes() == b"earlier"


@pytest.mark.parametrize(("user", "steps"), [(0, 2), (1000, 0)])
def test_missing_tex_is_installed_by_root_else_the_command_is_given(
    monkeypatch, user, steps
):
    ran = []
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda name: name if "apt" in name else None)
    monkeypatch.setattr(subprocess, "run", lambda step, **_: ran.append(step))
    told = (
        "TeX lacks latexmk, pdflatex, kpsewhich: run `sudo apt-get update && sudo apt"
    )
    with pytest.raises(SystemExit, match=told):
        build_pdf.provide_tex()  # since what was run has installed nothing
    assert ran == [["apt-get", "update"], build_pdf.INSTALL.split()][:steps]

"""tools/build_pdf.py: the checksums, the verdict on a log, and whole builds where TeX is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

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

    def write(body):
        (tmp_path / "paper.tex").write_text(PAPER % body)
        return tmp_path / "paper.tex", tmp_path / "paper.pdf", tmp_path / "build/pdf"

    return write


def refusal(paper: tuple) -> str:
    """What a failing build says; an earlier PDF must outlive it."""
    paper[1].write_bytes(b"earlier")
    with pytest.raises(SystemExit) as stop:
        build_pdf.build(*paper)
    assert paper[1].read_bytes() == b"earlier"
    return str(stop.value)


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
    tex, first, work = paper("body")
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

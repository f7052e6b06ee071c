"""The Makefile and tools/set_up.py: what they say, and that nothing is deleted."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

MAKE, PYTHON = shutil.which("make"), f"PYTHON={sys.executable}"


def make(folder, *arguments, **environment):
    """What `make` said in a folder with no packages to install, and failed."""
    if not (folder / "tools").exists():
        (folder / "tools").symlink_to(ROOT / "tools")
        (folder / "requirements.txt").write_text("")
    # nothing of the make that runs this, nor of the reader's environment
    outer = "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "NETID", "NOTEBOOKS"
    inherited = {k: v for k, v in os.environ.items() if k not in outer}
    done = subprocess.run(
        [MAKE, "-f", ROOT / "Makefile", *arguments],
        check=False,
        cwd=folder,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def script(path, line):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def test_a_named_folder_is_never_deleted_nor_filled(tmp_path):
    (tmp_path / "envs/mine").mkdir(parents=True)
    no_venv = f'case "$*" in *venv*) exit 1;; esac\nexec {sys.executable} "$@"'
    python = f"PYTHON={script(tmp_path / 'python', no_venv)}"
    make(tmp_path, "zip", python, "NETID=", VENV="envs")
    said = make(tmp_path, "check", python, "VENV=envs")
    assert "envs holds other things than packages: name another VENV=" in said
    said = make(tmp_path, "check", PYTHON, "VENV=requirements.txt/v")  # is a file
    assert "requirements.txt/v could not be made, as said above" in said
    assert [path.name for path in tmp_path.glob("envs/*")] == ["mine"]
    assert (tmp_path / "requirements.txt").is_file()


@pytest.mark.parametrize("answer", ["exit 1", "echo Python 3.9"])
def test_a_venv_that_is_broken_or_of_another_python_is_one_sentence(tmp_path, answer):
    script(tmp_path / ".venv/bin/python", answer)
    (tmp_path / ".venv/pyvenv.cfg").touch()
    broken = answer == "exit 1"  # refused whatever PYTHON is
    said = make(tmp_path, "check", *[PYTHON][broken:], VENV="envs")
    has = "no Python that runs" if broken else "Python 3.9"
    assert f"make: .venv has {has} instead of Python 3." in said
    assert "remove it (`rm -r .venv`) or name another with VENV=" in said
    assert (tmp_path / ".venv/bin/python").exists()


def test_packages_that_are_lacking_are_named_with_the_command(tmp_path):
    make(tmp_path, "check", PYTHON, "VENV=")  # the list is empty; notebooks are missing
    lines = "# a comment", "a-b-c==1.2", 'd-e-f==3; python_version > "3"', "pytest==1.0"
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    said = make(tmp_path, "check", PYTHON, "VENV=")
    assert "-m pip install a-b-c==1.2 d-e-f`." in said


@pytest.mark.parametrize("python", ["./my python", "/nowhere/python", "./no such", ""])
def test_an_interpreter_may_have_a_space_and_must_run(tmp_path, python):
    (tmp_path / "my python").symlink_to(sys.executable)
    for target in ("zip", "check", "execute", "test"):
        said = make(tmp_path, target, f"PYTHON={python}", "VENV=requirements.txt/v")
        told = f"make: PYTHON={python} is no Python that runs"
        if python == "./my python":
            told = "no NetID given" if target == "zip" else "could not be made"
        assert told in said


def test_missing_tex_is_one_sentence_before_anything_is_set_up(tmp_path):
    said = make(tmp_path, "pdf", PYTHON, PATH=str(tmp_path))  # no TeX, no apt-get
    assert said.startswith("TeX lacks latexmk")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("netid", ["$(shell touch x)", "`touch x`", '"; touch x"'])
def test_nothing_in_a_netid_is_run(tmp_path, netid):
    assert "is not a NetID" in make(tmp_path, "zip", PYTHON, f"NETID={netid}")
    assert "is not a NetID" in make(tmp_path, "zip", PYTHON, NETID=netid)
    assert not (tmp_path / "x").exists()


def test_make_alone_lists_the_targets():
    listed = subprocess.run(["make"], check=True, cwd=ROOT, capture_output=True).stdout
    for target in ("check", "execute", "pdf", "zip", "test", "clean"):
        assert f"make {target}" in listed.decode()

"""The Makefile and tools/set_up.py: what they say, and that nothing is deleted."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

PYTHON = f"PYTHON={sys.executable}"


def make(folder, *arguments, **environment):
    """What `make` said in a folder with no packages to install, and failed."""
    if not (folder / "tools").exists():
        (folder / "tools").symlink_to(ROOT / "tools")
        (folder / "requirements.txt").write_text("")
    outer = "MAKEFLAGS", "MAKELEVEL", "MFLAGS"  # of the make that runs these tests
    inherited = {k: v for k, v in os.environ.items() if k not in outer}
    done = subprocess.run(
        ["make", "-f", ROOT / "Makefile", *arguments],
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


def venv(folder, python):
    """What a virtual environment looks like, with this interpreter."""
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("")
    (folder / "bin/python").symlink_to(python)


def test_a_named_folder_is_never_deleted(tmp_path):
    (tmp_path / "envs/mine").mkdir(parents=True)
    python = tmp_path / "python"  # one that can make no virtual environment
    refuses = 'case "$*" in *venv*) exit 1;; esac\n'
    python.write_text(f'#!/bin/sh\n{refuses}exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    make(tmp_path, "check", f"PYTHON={python}", "VENV=envs")
    make(tmp_path, "zip", f"PYTHON={python}", "NETID=", VENV="envs")
    make(tmp_path, "check", PYTHON, "VENV=requirements.txt/v")  # none can be made there
    assert (tmp_path / "envs/mine").is_dir()
    assert (tmp_path / "requirements.txt").exists()


def test_venv_is_not_read_from_the_environment(tmp_path):
    venv(tmp_path / ".venv", "/nowhere/python")
    assert ".venv is broken" in make(tmp_path, "check", PYTHON, VENV="envs")


def test_a_broken_venv_or_one_of_another_python_is_one_sentence(tmp_path):
    venv(tmp_path / "broken", "/nowhere/python")
    said = make(tmp_path, "check", PYTHON, "VENV=broken")
    assert "make: broken is broken" in said
    assert "rm -r broken" in said
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)
    venv(tmp_path / "other", old)
    said = make(tmp_path, "check", PYTHON, "VENV=other")
    assert "make: other has Python 3.9, while PYTHON is Python 3." in said
    assert (tmp_path / "broken").exists()
    assert (tmp_path / "other").exists()


def test_packages_that_are_lacking_are_named_with_the_command(tmp_path):
    make(tmp_path, "check", PYTHON, "VENV=")  # the list is empty; notebooks are missing
    lines = ["# a comment", "no-such-thing==1.2", 'nor-that==3; python_version > "3"']
    (tmp_path / "requirements.txt").write_text("\n".join([*lines, "pytest==1.0"]))
    said = make(tmp_path, "check", PYTHON, "VENV=")
    assert "-m pip install no-such-thing==1.2 nor-that`." in said
    assert "pytest==" not in said


def test_an_interpreter_with_a_space_in_its_path(tmp_path):
    (tmp_path / "my python").symlink_to(sys.executable)
    assert "no NetID given" in make(tmp_path, "zip", "PYTHON=./my python", "NETID=")


@pytest.mark.parametrize("python", ["/nowhere/python", "./not a python", ""])
def test_an_interpreter_that_does_not_run_is_one_sentence(tmp_path, python):
    said = make(tmp_path, "check", f"PYTHON={python}")
    assert f"make: PYTHON={python} is no Python that runs" in said


@pytest.mark.parametrize(
    "netid", ["$(shell touch x)", "$$(touch x)", "`touch x`", '"; touch x"']
)
def test_nothing_in_a_netid_is_run(tmp_path, netid):
    assert "is not a NetID" in make(tmp_path, "zip", PYTHON, f"NETID={netid}")
    assert "is not a NetID" in make(tmp_path, "zip", PYTHON, NETID=netid)
    assert not (tmp_path / "x").exists()


def test_make_alone_lists_the_targets():
    listed = subprocess.run(["make"], check=True, cwd=ROOT, capture_output=True).stdout
    for target in ("check", "execute", "pdf", "zip", "test", "clean"):
        assert f"make {target}" in listed.decode()

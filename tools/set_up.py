"""set_up.py VENV ORIGIN LIST...: sees to it that make has a Python with its packages.

Makes the virtual environment VENV where there is none, and installs each LIST of
requirements into it that is newer than its last installation. Where VENV is empty, it
says what this Python lacks. ORIGIN is where make has PYTHON from: "file" is the default.
"""

import re
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

VERSION = "import sys; print('Python {}.{}'.format(*sys.version_info))"


def lacking(lists: list[str]) -> str:
    """What of the lists this Python lacks, as pip takes it."""
    found = {}
    for line in "\n".join(Path(name).read_text() for name in lists).splitlines():
        name = re.match(r"[\w-]*", line)[0]
        try:
            if name not in ("", "jupyter"):  # which is for readers; make does without
                version(name)
        except PackageNotFoundError:
            found[name] = name if ";" in line else line
    return " ".join(found.values())


def says(python: str, code: str) -> str | None:
    """What an interpreter prints for a line of code; None where it cannot run it."""
    try:
        done = subprocess.run([python, "-c", code], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode().strip()


def main() -> str:
    """→ why this cannot be, or nothing"""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    venv, origin, *lists = sys.argv[1:]
    python = f"{venv}/bin/python"
    if not venv:
        missing = lacking(lists)
        command = f"{sys.executable} -m pip install {missing}"
        return missing and f"this Python lacks packages: run `{command}`"
    if Path(venv).is_dir() and any(Path(venv).iterdir()):
        found, wanted = says(python, VERSION), says(sys.executable, VERSION)
        if not Path(venv, "pyvenv.cfg").exists():
            return f"{venv} holds other things than packages: name another VENV="
        if found is None or origin != "file" and found != wanted:
            has = f"{venv} has {found or 'no Python that runs'} instead of {wanted}"
            return f"{has}: remove it (`rm -r {venv}`) or name another with VENV="
    pip = python, "-m", "pip", "--disable-pip-version-check", "install"
    for name in lists:
        mark = Path(venv, "-".join(["installed", *Path(name).parent.parts]))
        if mark.exists() and mark.stat().st_mtime >= Path(name).stat().st_mtime:
            continue
        if says(python, "import pip") is None:
            print(f"setting up {venv} (once; some minutes and about 6 GB)", flush=True)
            if subprocess.call([sys.executable, "-m", "venv", venv]):
                return f"{venv} could not be made, as said above; or see README.md"
            subprocess.call([*pip, "--quiet", "--upgrade", "pip"])
        if subprocess.call([*pip, "-r", name]):
            return f"what {name} lists could not be installed, as said above"
        mark.touch()
    return ""


if __name__ == "__main__":
    if refusal := main():
        sys.exit(f"make: {refusal}.")

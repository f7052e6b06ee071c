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

NOT_RUN = {"jupyter"}  # for readers; make does without


def refuse(sentence: str) -> None:
    sys.exit(f"make: {sentence}.")


def lacking(lists: list[Path]) -> list[str]:
    """What of the lists this Python lacks, as pip takes it."""
    found = {}
    for line in "\n".join(file.read_text() for file in lists).splitlines():
        name = re.match(r"[\w-]*", line)[0]
        try:
            version(name or "pip")
        except PackageNotFoundError:
            found[name] = name if ";" in line else line
    return [pin for name, pin in found.items() if name not in NOT_RUN]


def says(python: Path, code: str) -> str | None:
    """What an interpreter prints for a line of code; None where it cannot run it."""
    try:
        done = subprocess.run([python, "-c", code], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode().strip()


def check(folder: Path, chosen: bool) -> None:
    """Refuses a folder that is no working virtual environment of the Python asked for."""
    python, wanted = folder / "bin/python", "{}.{}".format(*sys.version_info)
    found = says(python, "import sys; print(*sys.version_info[:2], sep='.')")
    cure = f"remove it (`rm -r {folder}`) or name another with VENV="
    if not (folder / "pyvenv.cfg").exists():
        refuse(f"{folder} holds other things than Python's packages: name another VENV")
    if found is None:
        refuse(f"{folder} is broken, as {python} does not run: {cure}")
    if chosen and found != wanted:
        refuse(f"{folder} has Python {found}, while PYTHON is Python {wanted}: {cure}")


def make(folder: Path) -> None:
    """Makes a virtual environment, or adds to one what it lacks."""
    print(f"setting up {folder} (once; some minutes and about 6 GB)", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", folder], check=False).returncode:
        refuse(
            f"`{sys.executable} -m venv {folder}` failed as said above: on Debian and"
            " Ubuntu `sudo apt-get install python3-venv`, or see VENV= in README.md"
        )


def pip(python: Path, *arguments: str) -> int:
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=False).returncode


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    venv, origin, *names = sys.argv[1:]
    lists, folder = [Path(name) for name in names], Path(venv)
    python = folder / "bin/python"
    if not venv:
        if missing := lacking(lists):
            command = f"{sys.executable} -m pip install {' '.join(missing)}"
            refuse(f"this Python lacks packages: run `{command}`")
        return
    if folder.exists() and any(folder.iterdir()):
        check(folder, chosen=origin != "file")
    for file in lists:
        mark = folder / "-".join(["installed", *file.parent.parts])
        if mark.exists() and mark.stat().st_mtime >= file.stat().st_mtime:
            continue
        if says(python, "import pip") is None:
            make(folder)
            pip(python, "install", "--quiet", "--upgrade", "pip")
        if pip(python, "install", "-r", str(file)):
            refuse(f"what {file} lists could not be installed, as said above")
        mark.touch()


if __name__ == "__main__":
    main()

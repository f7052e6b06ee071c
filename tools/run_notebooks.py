"""run_notebooks.py [--in-place] [NOTEBOOK ...]: runs notebooks, tabulates their results.

Each runs alone in a folder of its own, on nbclient. As run, it is left in build/. With
--in-place they run one by one, since their seconds are published, and each that ran
without error replaces the file it was read from. Without, those with a cell tagged
`one-thread` run side by side, as many as there are cores, after the others.
"""

import base64
import io
import os
import platform
import re
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import nbformat
import notebooks
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

BUILD = Path("build")
affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
CORES = len(affinity(0))  # that this program may use
QUIET = 15.0  # seconds between two progress lines where there is no terminal


class Board:
    """Tells of each running notebook: cell i of n, seconds, the last line it printed."""

    def __init__(self, console: Console):
        self.console, self.stopped = console, threading.Event()
        self.running = {}  # name → (when it began, cell i, of n, that cell)

    def lines(self) -> Text:
        told = []
        for name, (began, number, cells, cell) in list(self.running.items()):
            printed = "\n".join(map(notebooks.text_of, cell.get("outputs", [])))
            line = (printed.strip().splitlines() or [""])[-1].strip()[:100]
            seconds = time.monotonic() - began
            told.append(f"{name}  cell {number} of {cells}  {seconds:.0f} s  {line}")
        return Text("\n".join(told))

    def show(self) -> Live:
        """While it is entered, the lines stand on the terminal, or are printed at times."""
        if not self.console.is_terminal:
            threading.Thread(target=self.print_lines, daemon=True).start()
        return Live(get_renderable=self.lines, console=self.console, transient=True)

    def print_lines(self) -> None:
        while not self.stopped.wait(QUIET):
            print(self.lines(), flush=True)


def as_node(notebook: dict) -> nbformat.NotebookNode:
    """The notebook without outputs, each of its cells with an id of its own."""
    ids = set()
    for number, cell in enumerate(notebook["cells"]):
        if cell.get("id") in ids | {None}:
            cell["id"] = f"cell-{number}"
        ids.add(cell["id"])
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return nbformat.from_dict(notebook | {"nbformat_minor": 5})


def run(notebook: nbformat.NotebookNode, name: str, folder: str, board: Board) -> str:
    """Runs a notebook in a folder → "" or which cell failed and how."""
    cells, began = notebook.cells, time.monotonic()
    board.running[name] = began, 0, len(cells), {}

    def on_cell_start(cell, cell_index):
        if board.stopped.is_set():
            raise KeyboardInterrupt
        board.running[name] = began, cell_index + 1, len(cells), cell

    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # printed text often comes in pieces
        shutdown_kernel="immediate",
        extra_arguments=["--log-level=ERROR"],  # its socket's warning is not ours
        resources={"metadata": {"path": folder}},
        on_cell_start=on_cell_start,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).strip().splitlines()
        reason = "\n".join(lines[-25:])
    except DeadKernelError:
        reason = "The kernel died: it may have run out of memory."
    else:
        return ""
    finally:
        _, number, _, cell = board.running.pop(name)
    return f"{name}, cell {number} ({cell.get('id')}):\n{reason}"


def compress(png: str) -> str:
    """A picture with the same pixels in fewer bytes: base64 PNG → base64 PNG."""
    image, small = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")  # opaque all over
    image.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Compresses pictures, drops metadata that tell of the front end."""
    for cell in notebooks.code_cells(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = compress(output.data["image/png"])
    kept = {"kernelspec", "language_info"} & set(notebook.metadata)
    notebook.metadata = {key: notebook.metadata[key] for key in sorted(kept)}


def machine() -> str:
    """Cores, processor and versions, for the README."""
    info = Path("/proc/cpuinfo")
    named = info.exists() and re.search(r"model name\s*: (.*)", info.read_text())
    name = named[1] if named else platform.processor() or platform.machine()
    python = f"Python {platform.python_version()}, torch {version('torch')}"
    return f"{CORES} core{'s' * (CORES > 1)} ({name}), {python}"


def attempt(path: Path, in_place: bool, board: Board) -> tuple[str, float, dict, str]:
    """Runs a notebook, keeps what is to be kept → (name, seconds, results, what failed)."""
    began, table, failure = time.monotonic(), {}, ""
    try:
        before = path.read_bytes() if path.exists() else b""
        notebook = as_node(notebooks.read(path))
        (BUILD / "run").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=BUILD / "run", prefix=f"{path.stem}-", ignore_cleanup_errors=True
        ) as folder:
            failure = run(notebook, path.name, folder, board)
        stamp = {"seconds": round(time.monotonic() - began), "machine": machine()}
        tidy(notebook)
        notebook.metadata["run"] = stamp | notebooks.checksums(notebook)
        content = (nbformat.writes(notebook) + "\n").encode()
        notebooks.replace(BUILD / path.name, content)
        if not failure:
            table = notebooks.results(notebook)
            if in_place:
                if path.read_bytes() != before:
                    raise ValueError(f"was saved while it ran: its run is in {BUILD}/")
                notebooks.replace(path, content)
    except OSError as error:
        failure = f"{error.filename or path} cannot be written: {error.strerror}."
    except ValueError as error:
        failure = f"{path.name} {error}."
    except Exception as error:  # noqa: BLE001 - it ends this notebook alone
        failure = f"{path.name}: {type(error).__name__}: {error}"
    return path.name, time.monotonic() - began, table, failure


def takes_one_thread(path: Path) -> bool:
    """Whether a cell's tag says that the notebook leaves the other cores alone."""
    readable = path.is_file() and os.access(path, os.R_OK)
    return readable and b'"one-thread"' in path.read_bytes()


def attempt_all(paths: list[Path], in_place: bool, board: Board) -> list[tuple]:
    """Attempts every notebook → what `attempt` returns, in the order of the paths."""
    small = [path for path in paths if not in_place and takes_one_thread(path)]
    large = [path for path in paths if path not in small]
    done = {}
    for group, at_once in (large, 1), (small, CORES):
        with ThreadPoolExecutor(at_once) as pool:
            futures = {p: pool.submit(attempt, p, in_place, board) for p in group}
            try:
                done |= {path: future.result() for path, future in futures.items()}
            except KeyboardInterrupt:
                board.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for child in psutil.Process().children(recursive=True):
                    child.kill()
                raise
    return [done[path] for path in paths]


def closing_table(outcomes: list[tuple], minutes: float) -> Table:
    """A block a notebook: how it ran, its measures, its claims as far as they fail."""
    table = Table(title=f"Results, after {minutes:.1f} minutes", title_justify="left")
    for heading in "notebook, measure", "asked", "our bar", "got", "verdict":
        table.add_column(heading, overflow="fold")
    for name, seconds, results, failure in outcomes:
        verdict = "failed" if failure else "passed"
        table.add_row(name, "", "", f"{seconds:.1f} s", verdict, style="bold")
        for row in results.get("measures", []):
            table.add_row(*row.values())
        claims = results.get("claims", [])
        failing = [row for row in claims if row["verdict"] != "holds"]
        for row in failing:
            table.add_row(row["claim"], "", "", row["figures"], row["verdict"])
        if results:
            held = f"{len(claims) - len(failing)} of {len(claims)}"
            table.add_row("claims that hold", "", "", held, "")
        table.add_section()
    return table


def find_pictures() -> str:
    """Tells notebooks, which run elsewhere, where the pictures are → a line about it."""
    beside = Path("cats_and_dogs_filtered").resolve()
    named = Path(os.environ.get("CATS_AND_DOGS_DIR") or beside).resolve()
    for folder in named, beside:
        if (folder / "train").is_dir():
            os.environ["CATS_AND_DOGS_DIR"] = str(folder)
            return f"hw2_cnn.ipynb takes its pictures from {folder}"
    return f"hw2_cnn.ipynb downloads its pictures (69 MB): there are none in {named}"


def main() -> int:
    in_place = sys.argv[1:2] == ["--in-place"]
    names = sys.argv[1 + in_place :] or notebooks.NOTEBOOKS
    paths = [Path(name) for name in dict.fromkeys(names)]
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this interpreter's kernel, no other
    os.environ["IPYTHONDIR"] = str((BUILD / "ipython").resolve())  # no start-up files
    for kind in signal.SIGINT, signal.SIGTERM:  # the first is ignored under `&`
        signal.signal(kind, signal.default_int_handler)
    console = Console(markup=False, highlight=False)
    console.width = console.width if console.is_terminal else 150
    if Path("hw2_cnn.ipynb") in paths:
        print(find_pictures(), flush=True)
    began, board = time.monotonic(), Board(console)
    with board.show():
        outcomes = attempt_all(paths, in_place, board)
    console.print(closing_table(outcomes, (time.monotonic() - began) / 60))
    failures = [failure for *_, failure in outcomes if failure]
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; what had not run to its end is as it was", file=sys.stderr)
        sys.exit(130)

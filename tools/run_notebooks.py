"""run_notebooks.py [--in-place | --seeds N ...] NOTEBOOK...: runs notebooks, tabulates results.

Each runs alone in a folder of its own under build/run/, on nbconvert's executor; those
that use one thread run side by side, as many as there are cores, the others one by one.
With --in-place, a notebook that ran without error replaces the file it was read from. With
--seeds, each is run once for each seed, put in place of its own in the line `SEED = ...`,
and what its acceptance cell prints is kept in tools/seeds.json, for the README.
"""

import argparse
import base64
import io
import os
import platform
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from itertools import product
from pathlib import Path

import nbformat
import notebooks
import psutil
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert.preprocessors import ExecutePreprocessor
from PIL import Image
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

BUILD = Path("build")
QUIET = 15.0  # seconds between two progress lines where there is no terminal


class Board:
    """A line a running notebook: name, cell i of n, seconds, last line that was printed."""

    def __init__(self, console: Console):
        self.console, self.stopped = console, threading.Event()
        columns = "[bold]{task.description}", "cell {task.completed} of {task.total}"
        self.progress = Progress(
            *map(TextColumn, columns),
            TimeElapsedColumn(),
            TextColumn("{task.fields[line]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self):
        self.progress.start()
        if not self.console.is_terminal:
            threading.Thread(target=self.print_lines, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.progress.stop()

    @contextmanager
    def task(self, name: str, cells: int) -> Iterator[TaskID]:
        if not self.console.is_terminal:
            print(f"{name}: {cells} cells", flush=True)
        task = self.progress.add_task(name, total=cells, line="")
        try:
            yield task
        finally:
            self.progress.remove_task(task)

    def print_lines(self) -> None:
        while not self.stopped.wait(QUIET):
            for task in self.progress.tasks:
                where = f"cell {task.completed:.0f} of {task.total:.0f}"
                seconds, line = f"{task.elapsed or 0:.0f} s", task.fields["line"]
                print(f"{task.description}  {where}  {seconds}  {line}", flush=True)


class Runner(ExecutePreprocessor):
    """nbconvert's executor, which tells a board what the kernel is doing."""

    def __init__(self, board: Board, task: TaskID):
        super().__init__(
            timeout=None,
            kernel_name="python3",
            record_timing=False,
            shutdown_kernel="immediate",
            extra_arguments=["--log-level=ERROR"],  # its socket's warning is not ours
        )
        self.board, self.task = board, task

    def preprocess_cell(self, cell, resources, index):
        self.failed_at = index
        if self.board.stopped.is_set():
            raise DeadKernelError("stopped")
        if cell.cell_type == "code":
            self.board.progress.update(self.task, completed=index + 1, line="")
        return super().preprocess_cell(cell, resources, index)

    def process_message(self, msg, cell, cell_index):
        content = msg["content"]
        text = content.get("text") or content.get("data", {}).get("text/plain")
        kinds = ("stream", "display_data", "update_display_data")
        lines = [line for line in re.split(r"[\r\n]+", text or "") if line.strip()]
        if lines and msg["msg_type"] in kinds:
            self.board.progress.update(self.task, line=lines[-1].strip()[:100])
        return super().process_message(msg, cell, cell_index)


def run(
    path: Path, board: Board, seed: int | None = None
) -> tuple[nbformat.NotebookNode, str]:
    """Runs one notebook alone in its folder → (the notebook as run, "" or what failed)."""
    notebook = notebooks.read(path)
    name = path.stem if seed is None else f"{path.stem}, seed {seed}"
    if seed is not None:
        notebooks.set_seed(notebook, path, seed)
    folder = BUILD / "run" / name.replace(", ", "-").replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    failure, resources = "", {"metadata": {"path": str(folder)}}
    with board.task(name, len(notebook.cells)) as task:
        runner = Runner(board, task)
        try:
            notebook, _ = runner.preprocess(notebook, resources)
        except CellExecutionError as error:
            lines = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).strip().splitlines()
            failure = "\n".join(lines[-25:])
        except DeadKernelError:
            failure = "The kernel died: it may have run out of memory."
    if failure:
        cell = notebook.cells[runner.failed_at]
        failure = f"{path.name}, cell {runner.failed_at + 1} ({cell.id}):\n{failure}"
    write(notebook, folder / path.name)
    return notebook, failure


def shrink(png: str) -> str:
    """A figure with the same pixels in fewer bytes: base64 PNG → base64 PNG."""
    image, small = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")  # opaque all over
    image.save(small, "PNG", optimize=True)
    return min(base64.b64encode(small.getvalue()).decode(), png, key=len)


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Writes a notebook whole or not at all, its figures as small as they get."""
    for cell in notebooks.code_cells(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = shrink(output.data["image/png"])
    keep = ("kernelspec", "language_info", "run")
    notebook.metadata = {
        k: notebook.metadata[k] for k in keep if k in notebook.metadata
    }
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def results(outcomes: list[tuple[str, float, list, str]], minutes: float) -> Table:
    """The closing table: a block a notebook, a line for each result it accepted."""
    title = f"Results, after {minutes:.1f} minutes in all"
    table = Table(title=title, title_justify="left", padding=(0, 1))
    for heading in ("notebook", "run", "seconds"):
        table.add_column(
            heading, no_wrap=True, justify="right" if heading == "seconds" else "left"
        )
    for heading in notebooks.COLUMNS:
        table.add_column(heading, overflow="fold")
    for name, seconds, rows, failure in outcomes:
        verdict, blank = (
            "failed" if failure else "passed",
            ("",) * len(notebooks.COLUMNS),
        )
        for number, row in enumerate(rows or [blank]):
            first = (name, verdict, f"{seconds:.1f}") if number == 0 else ("", "", "")
            table.add_row(*first, *row, end_section=number == len(rows or [blank]) - 1)
    return table


def cores() -> int:
    """How many processor cores this program may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> str:
    """Cores, processor and versions, for the README."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
        name = names[0].strip() if names else name
    return f"{cores()} cores ({name}), Python {platform.python_version()}, torch {version('torch')}"


def attempt(
    path: Path, seed: int | None, in_place: bool, board: Board
) -> tuple[str, float, list, str]:
    """Runs a notebook, keeps what is to be kept → (name, seconds, results, what failed)."""
    name = path.name if seed is None else f"{path.name}, seed {seed}"
    failure, rows, began = "", [], time.monotonic()
    try:
        code = notebooks.checksum(notebooks.read(path))  # it may be edited meanwhile
        notebook, failure = run(path, board, seed)
        rows = notebooks.acceptance(notebook)
        if in_place and not failure:
            seconds = round(time.monotonic() - began)
            notebook.metadata["run"] = {"seconds": seconds, "machine": machine()}
            write(notebook, path)
        if seed is not None and not failure:
            notebooks.keep_seed(code, path.stem, seed, rows)
    except ValueError as error:
        failure = f"{error}."
    except OSError as error:
        failure = f"{error.filename or path} cannot be written: {error.strerror}."
    return name, time.monotonic() - began, rows, failure


def attempt_all(jobs: list[tuple], in_place: bool, board: Board) -> list[tuple]:
    """Attempts (path, seed) for each job, those of one thread side by side, in order."""
    small = [job for job in jobs if notebooks.takes_one_thread(job[0])]
    large = [job for job in jobs if job not in small]
    done = {}
    for group, at_once in (large, 1), (small, cores()):
        with ThreadPoolExecutor(at_once) as pool:
            futures = {
                job: pool.submit(attempt, *job, in_place, board) for job in group
            }
            try:
                done |= {job: future.result() for job, future in futures.items()}
            except KeyboardInterrupt:
                board.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for child in psutil.Process().children(recursive=True):
                    child.kill()
                raise
    return [done[job] for job in jobs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--in-place", action="store_true", help="keep the outputs")
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="N", help="run with these seeds instead"
    )
    arguments = parser.parse_args()
    if arguments.in_place and arguments.seeds:
        parser.error("--in-place keeps the notebook's own seed: leave out --seeds")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this interpreter's kernel, no other
    os.environ["IPYTHONDIR"] = str((BUILD / "ipython").resolve())  # no start-up files
    for kind in signal.SIGINT, signal.SIGTERM:  # the first is ignored under `&`
        signal.signal(kind, signal.default_int_handler)
    console = Console()
    if not console.is_terminal:
        console.width = 150
    began = time.monotonic()
    jobs = list(product(arguments.notebooks, arguments.seeds or [None]))
    with Board(console) as board:
        outcomes = attempt_all(jobs, arguments.in_place, board)
    console.print(results(outcomes, (time.monotonic() - began) / 60))
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

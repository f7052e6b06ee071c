"""run.py [--in-place] [NOTEBOOK ...]: executes notebooks and shows their results.

Works on the current folder and leaves in build/ what it ran. With --in-place each that
ran to its end replaces its file, its results in README.md and its picture in docs/.
"""

import base64
import io
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path

import nbformat
import submit
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert.preprocessors import ClearOutputPreprocessor, ExecutePreprocessor
from PIL import Image

BUILD, DOCS, README = Path("build"), Path("docs"), Path("README.md")
CORES = len(getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0))

# The kernel is this interpreter, without the machine's settings; make drops the reader's.
FOLDERS = ("IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
KERNEL = """\
import sys; del sys.path[0]  # the current folder, until the kernel is loaded
import matplotlib.font_manager  # lists the fonts, once, before a cell would tell of it
from IPython.core import application as ipython
ipython.SYSTEM_CONFIG_DIRS.clear(); ipython.ENV_CONFIG_DIRS.clear()
from ipykernel.kernelapp import launch_new_instance; launch_new_instance(log_level=40)"""


class OwnKernel(AsyncKernelManager):
    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-c", KERNEL, "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def machine() -> str:
    """Cores, processor and versions."""
    info, python = Path("/proc/cpuinfo"), platform.python_version()
    names = re.findall("model name.*: (.*)", info.read_text() if info.exists() else "")
    cores = f"{CORES} core{'s' * (CORES > 1)} ({[*names, platform.machine()][0]})"
    return f"{cores}, Python {python}, torch {version('torch')}"


def tagged(notebook: dict, tag: str, kind: str = "text/") -> str:
    """What the cell with a tag shows of a kind."""
    cells = submit.code_cells(notebook)
    cells = [cell for cell in cells if tag in cell["metadata"].get("tags", [])]
    return "".join(submit.shown(cells, kind)).strip()


def smaller(png: str, width: int = 0) -> str:
    """A picture in fewer bytes, which no front end saves: so a later run is told apart."""
    picture, saved = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    if width:
        picture.thumbnail((width, width))
        picture = picture.convert("RGB").quantize()
    picture.save(saved, "PNG", optimize=True)
    return base64.b64encode(saved.getvalue()).decode()


class Run(ExecutePreprocessor):
    """The run of one notebook on nbconvert's executor, and what came of it."""

    kernel_manager_class, timeout, startup_timeout = OwnKernel, None, 600  # slow disks
    record_timing, coalesce_streams = False, True
    place, failure, took, results = "", "", "0 s", ""

    def preprocess_cell(self, cell: dict, resources: dict, index: int) -> tuple:
        self.place = f"{index + 1}/{len(self.nb.cells)} {submit.quote(cell['source'])}"
        return super().preprocess_cell(cell, resources, index)

    def attempt(self, part: Callable, path: Path) -> None:
        """Does a part of the work; whatever fails is noted, and ends this notebook alone."""
        try:
            part(path)
        except FileNotFoundError as error:
            self.failure = f"There is no {error.filename}: write out its whole name."
        except Exception as error:  # noqa: BLE001
            self.failure = f"{type(error).__name__}: {error}"

    def execute(self, path: Path) -> None:
        """Executes a notebook and leaves it in build/."""
        self.began, self.before = time.time(), path.read_bytes()
        notebook = nbformat.from_dict(submit.read(self.before))
        ClearOutputPreprocessor().preprocess(notebook, {})
        try:
            self.preprocess(notebook, {"metadata": {"path": "."}})
        except (CellExecutionError, DeadKernelError) as error:
            self.failure = f"{self.place}: {error}"
        for cell in submit.code_cells(notebook):  # whatever the kernel replied
            for error in submit.shown([cell], "error"):
                self.failure = f"{submit.quote(cell['source'])} failed:\n{error}"
            for output in cell["outputs"]:
                if png := output.get("data", {}).get("image/png"):
                    output["data"]["image/png"] = smaller(png)
        seconds, self.results = time.time() - self.began, tagged(notebook, "results")
        self.took = f"{seconds:.0f} s on {machine()}"
        run = {"took": self.took, **submit.stamp(notebook)}
        notebook.metadata.update(language_info={"name": "python"}, run=run)
        self.content = (nbformat.writes(notebook).rstrip() + "\n").encode()
        submit.write(BUILD / path.name, self.content)

    def keep(self, path: Path) -> None:
        """Replaces the notebook, its results in README and its picture in docs/."""
        name, cells = path.stem, submit.code_cells(self.nb)
        if path.read_bytes() != self.before:
            self.failure = "It was saved while it ran: its run is in build/."
        elif submit.STAND_IN in "".join(submit.shown(cells, "text/")):
            self.failure = "It ran on stand-in data: its run is in build/."
        else:
            submit.write(path, self.content)
            if README.exists():
                block = f"(?s)(?<=<!-- {name} -->\n).*?(?=<!-- end -->)"
                told = f"`{name}`, {self.took}:\n```text\n{self.results}\n```\n"
                text = re.sub(block, lambda _: told, README.read_text("utf-8"))
                submit.write(README, text.encode())
            if png := tagged(self.nb, "cover", "image/png"):
                submit.write(DOCS / f"{name}.png", base64.b64decode(smaller(png, 600)))

    def report(self, path: Path) -> str:
        """How it went, the text of its results cell, and what failed."""
        verdict, took = "failed" if self.failure else "passed", self.took.split(" on ")
        lines = f"{path.name} {verdict}, {took[0]}", self.results, self.failure
        return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(filter(None, lines)))


def run_all(runs: dict[Path, Run]) -> None:
    """Runs hw2_cnn on all cores, then the others one a core, and tells where they are."""
    large = [(p, r) for p, r in runs.items() if p.name.startswith("hw2_cnn")]
    small, terminal = [i for i in runs.items() if i not in large], sys.stdout.isatty()
    for group, at_once in (large, 1), (small, CORES):
        pool = ThreadPoolExecutor(at_once)
        jobs = {pool.submit(r.attempt, r.execute, p): (p.stem, r) for p, r in group}
        while left := wait(jobs, timeout=1 if terminal else 30).not_done:
            now = [jobs[job] for job in left if job.running()]
            told = [f"{n} {r.place:.32} {time.time() - r.began:.0f} s" for n, r in now]
            line = f"{'   '.join(told):.79}"
            print(f"\r\x1b[K{line}" if terminal else f"{line}\n", end="", flush=True)


def main() -> int:
    in_place = sys.argv[1:2] == ["--in-place"]
    names = re.findall(r"\S.*?\.ipynb|\S+", " ".join(sys.argv[1 + in_place :]))
    os.environ |= dict.fromkeys(FOLDERS, str(BUILD.resolve() / "settings"))
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for kind in signal.SIGINT, signal.SIGTERM:  # the first is ignored under `&`
        signal.signal(kind, signal.default_int_handler)
    runs = {Path(name): Run() for name in names or submit.NOTEBOOKS}
    try:
        run_all(runs)
    except KeyboardInterrupt:
        for run in runs.values():
            if run.km and run.km.has_kernel:
                os.killpg(run.km.provisioner.pid, signal.SIGKILL)
                run.km.provisioner.process.wait()
        print("\nstopped; no notebook was replaced", flush=True)
        os._exit(130)  # the threads would wait for their kernels
    for path, run in runs.items():
        if in_place and not run.failure:
            run.attempt(run.keep, path)
    print("\n" + "\n\n".join(run.report(path) for path, run in runs.items()))
    return int(any(run.failure for run in runs.values()))


if __name__ == "__main__":
    sys.exit(main())

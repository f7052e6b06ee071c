"""write_results.py: copies what the notebooks' acceptance cells printed into README.md."""

import sys
from pathlib import Path

import notebooks

BEGIN, END = "<!-- results: written by make execute -->", "<!-- end of results -->"


def worst(got: list[str], *bars: str) -> str:
    """The least of the figures that a bar wants high, the largest of those it wants low."""
    sign = next((bar[0] for bar in bars if bar[0] in "<>"), None)
    if len(got) < 2 or sign is None:
        return ""
    return f"{(min if sign == '>' else max)(got, key=float)} (of {len(got)})"


def table(folder: Path) -> str:
    """Machine and seconds, and the Markdown table of every notebook's acceptance rows."""
    lines = ["| notebook | measure | asked | our bar | got | worst of seeds |"]
    lines.append("|---|---|---|---|---|---|")
    runs = {}
    for path in sorted(folder.glob("*.ipynb")):
        notebook = notebooks.read(path)
        runs[path.stem] = notebook.metadata.get("run")
        others = notebooks.got_with_seeds(notebook, path.stem, folder)
        rows = notebooks.acceptance(notebook)
        for number, (measure, asked, bar, got, _) in enumerate(rows):
            name = f"`{path.stem}`" if number == 0 else ""
            seeds = [got, *(other[measure] for other in others)]
            cells = (name, measure, asked, bar, got, worst(seeds, bar, asked))
            lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join([*machines(runs), "", *lines])


def machines(runs: dict[str, dict | None]) -> list[str]:
    """A line for each machine that the notebooks were run on, with their seconds."""
    lines = []
    for name in sorted({run["machine"] for run in runs.values() if run}):
        seconds = {
            k: v["seconds"] for k, v in runs.items() if v and v["machine"] == name
        }
        each = ", ".join(f"`{k}` {v} s" for k, v in seconds.items())
        lines.append(f"{name}: {each}.")
    return lines


def main() -> int:
    readme = Path("README.md")
    text = readme.read_text(encoding="utf-8")
    if not (BEGIN in text and END in text):
        print(
            f"README.md lacks the lines {BEGIN!r} and {END!r}: restore them.",
            file=sys.stderr,
        )
        return 1
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    results = f"{BEGIN}\n{table(Path())}\n{END}"
    readme.write_text(before + results + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

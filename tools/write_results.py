"""write_results.py: copies the notebooks' closing tables and their seconds into README.md."""

import sys
from pathlib import Path

import notebooks

README = Path("README.md")
BEGIN, END = "<!-- results: written by make execute -->", "<!-- end of results -->"


def rows_of(notebook: dict) -> list[list[str]]:
    """A notebook's measures without their verdicts, and how many of its claims hold."""
    results = notebooks.results(notebook)
    rows = [list(row.values())[:4] for row in results["measures"]]
    hold = sum(row["verdict"] == "holds" for row in results["claims"])
    return [
        *rows,
        ["claims that hold", "-", "-", f"{hold} of {len(results['claims'])}"],
    ]


def table(folder: Path) -> str:
    """Machine and seconds, then the Markdown table of every notebook's results."""
    lines = ["| notebook | measure | asked | our bar | got |", "|---|---|---|---|---|"]
    seconds: dict[str, list[str]] = {}
    for name in notebooks.NAMES:
        try:
            notebook = notebooks.read(folder / f"{name}.ipynb")
            rows = rows_of(notebook)
        except ValueError as error:
            raise ValueError(f"{name}.ipynb {error}") from None
        stamp = notebook["metadata"].get("run", {})
        if stamp.get("code") == notebooks.code_checksum(notebook):
            took = f"`{name}` {stamp['seconds']} s"
            seconds.setdefault(stamp["machine"], []).append(took)
        for number, row in enumerate(rows):
            first = f"| `{name}`" if number == 0 else "|"
            lines.append(f"{first} | {' | '.join(row)} |")
    took = [f"{machine}: {', '.join(each)}." for machine, each in seconds.items()]
    return "\n".join([*took, "", *lines])


def main() -> int:
    text = README.read_text(encoding="utf-8")
    try:
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
    except (ValueError, IndexError):
        print(f"README.md lacks {BEGIN!r} or {END!r}: restore them.", file=sys.stderr)
        return 1
    try:
        results = f"{BEGIN}\n{table(Path())}\n{END}"
    except ValueError as error:
        print(f"README.md is as it was: {error}.", file=sys.stderr)
        return 1
    notebooks.replace(README, (before + results + after).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

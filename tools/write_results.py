"""write_results.py: copies what the notebooks' acceptance cells printed into README.md."""

import sys
from pathlib import Path

import notebooks

BEGIN, END = "<!-- results: written by make execute -->", "<!-- end of results -->"


def table(folder: Path) -> str:
    """The Markdown table of every notebook's acceptance rows."""
    lines = ["| notebook | measure | asked | our bar | got |", "|---|---|---|---|---|"]
    for path in sorted(folder.glob("*.ipynb")):
        rows = notebooks.acceptance(notebooks.read(path))
        for number, (measure, asked, bar, got, _) in enumerate(rows):
            name = f"`{path.stem}`" if number == 0 else ""
            lines.append(f"| {name} | {measure} | {asked} | {bar} | {got} |")
    return "\n".join(lines)


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

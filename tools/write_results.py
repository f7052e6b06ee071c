"""write_results.py: copies the notebooks' closing tables and their seconds into README.md."""

import re
import sys
from pathlib import Path

import notebooks

BEGIN, END = "<!-- results: written by make execute -->", "<!-- end of results -->"
HEAD = "| notebook | measure | asked | our bar | got |\n|---|---|---|---|---|"


def table(folder: Path) -> str:
    """Machine and seconds, then every notebook's measures and how many claims hold."""
    lines, seconds = [], {}
    for name in notebooks.NAMES:
        try:
            notebook = notebooks.read(folder / f"{name}.ipynb")
            results = notebooks.results(notebook)
        except ValueError as error:
            raise ValueError(f"{name}.ipynb {error}") from None
        stamp = notebook["metadata"].get("run", {})
        if stamp.get("code") == notebooks.checksums(notebook)["code"]:
            took = f"`{name}` {stamp['seconds']} s"
            seconds.setdefault(stamp["machine"], []).append(took)
        rows = [list(row.values())[:4] for row in results["measures"]]
        held = sum(row["verdict"] == "holds" for row in results["claims"])
        rows.append(["claims that hold", "", "", f"{held} of {len(results['claims'])}"])
        for number, row in enumerate(rows):
            lines.append(f"| {'' if number else f'`{name}`'} | {' | '.join(row)} |")
    took = [f"{machine}: {', '.join(each)}." for machine, each in seconds.items()]
    return "\n".join([*took, "", HEAD, *lines])


def main() -> None:
    readme = Path("README.md")
    try:
        results = f"{BEGIN}\n{table(Path())}\n{END}"
    except ValueError as error:
        sys.exit(f"README.md stays as it is, since {error}.")
    text = readme.read_text(encoding="utf-8")
    text, found = re.subn(f"{BEGIN}.*{END}", lambda _: results, text, flags=re.DOTALL)
    if not found:
        sys.exit(f"README.md lacks the lines {BEGIN!r} and {END!r}: restore them.")
    notebooks.replace(readme, text.encode())


if __name__ == "__main__":
    main()

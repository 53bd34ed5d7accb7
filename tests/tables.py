"""Tables of the documentation that tests run: what stands in a row's first cell, and what becomes of it."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def outcomes(heading: str, page: str = "own-data.md") -> dict[str, str]:
    """First cell -> last cell of every row of the first table below a heading, as Markdown."""
    _, found, below = (DOCS / page).read_text().partition(f"# {heading}\n")
    assert found, f"docs/{page} has no heading {heading!r}"
    table = re.search(r"^(?:\|.*\|\n)+", below, re.M)
    assert table, f"no table below {heading!r}"
    rows = [_cells(line) for line in table[0].splitlines()[2:]]
    assert len({cells[0] for cells in rows}) == len(rows), "two rows of one name"
    return {cells[0]: cells[-1] for cells in rows}


def _cells(line: str) -> list[str]:
    r"""The cells of a row; `\|` is no border."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]

"""Whether the fleet's page says what the night found: read as a browser would, from its HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from posixpath import normpath
from urllib.parse import unquote

from devtools.rehearsal.site import OUT
from raysvq.ledger.records import CameraNight
from raysvq.storage import exists, join, read_bytes


@dataclass
class Row:
    """A camera in the table."""

    state: str = ""
    camera: str = ""
    sentence: str = ""
    link: str = ""


class Overview(HTMLParser):
    """The rows of the table of cameras, and every address that the page asks for from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.elsewhere: list[str] = []
        self._in_rows = False
        self._cell = ""  # attribute of Row that text belongs to

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of each element."""
        given = {name: value or "" for name, value in attrs}
        classes = given.get("class", "").split()
        for name in ("src", "href"):
            if given.get(name, "").startswith(("http:", "https:", "//")):
                self.elsewhere.append(given[name])
        if tag == "tbody":
            self._in_rows = given.get("id") == "rows"
        if not self._in_rows:
            return
        if tag == "tr":
            self.rows.append(Row())
        elif tag in ("td", "th"):
            self._cell = "state" if "state" in classes else "sentence" if "say" in classes else ""
        elif tag == "a" and not self.rows[-1].link:
            self.rows[-1].link, self._cell = given.get("href", ""), "camera"
        elif tag == "small":
            self._cell = ""

    def handle_endtag(self, tag: str) -> None:
        """Of each element."""
        if tag == "tbody":
            self._in_rows = False
        if tag in ("a", "td", "th"):
            self._cell = ""

    def handle_data(self, data: str) -> None:
        """Text between elements."""
        if self._in_rows and self._cell:
            row = self.rows[-1]
            setattr(row, self._cell, f"{getattr(row, self._cell)} {data.strip()}".strip())


def page_problems(cameras: Sequence[CameraNight], out: str = OUT) -> list[str]:
    """What is not right about the page after a run, given what the ledger has of each camera's night."""
    try:
        html = read_bytes(join(out, "page", "index.html")).decode()
    except FileNotFoundError:
        return ["there is none"]
    overview = Overview()
    overview.feed(html)
    shown = {row.camera: row for row in overview.rows}
    wanted = {night.camera: night for night in cameras}
    problems = [f"asks for {address}" for address in overview.elsewhere]
    problems += [f"{name} is missing" for name in sorted(wanted.keys() - shown.keys())]
    problems += [f"{name} is shown, and no camera" for name in sorted(shown.keys() - wanted.keys())]
    problems += [f"{row.camera} twice" for row in overview.rows if shown[row.camera] is not row]
    for name in sorted(wanted.keys() & shown.keys()):
        row, night = shown[name], wanted[name]
        if night.state not in row.state.split():
            problems.append(f"{name} is {row.state!r}, expected {night.state}")
        if night.failure and " ".join(night.failure.split()) not in " ".join(row.sentence.split()):
            problems.append(f"{name} does not say why it failed")
        if not exists(join(out, normpath(f"page/{unquote(row.link)}"))):
            problems.append(f"{name} has no page of its own at {row.link}")
    return problems

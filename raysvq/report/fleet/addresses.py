"""Names of the pages' files, and relative links to them and to what lies beside them."""

from __future__ import annotations

from urllib.parse import quote

from raysvq.storage import image_id

_LONGEST = 150  # characters of a file name without its ending and mark; file systems take 255 bytes


def page_name(camera: str) -> str:
    """The file name of a camera's page: its name percent-encoded, cut and with a hash where it is long."""
    name = quote(camera, safe="", errors="surrogateescape")
    name = f"%2E{name[1:]}" if name.startswith(".") else name  # else it would be hidden
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}~{image_id(name)}"
    return f"{name}.html"


def camera_link(camera: str) -> str:
    """From the overview to a camera's page."""
    return f"cameras/{quote(page_name(camera))}"


def picture_link(name: str) -> str:
    """From a camera's page to a file that is named from the fleet's folder on."""
    return f"../../{quote(name, errors='surrogateescape')}"


def record_link(number: int, ending: str, up: str) -> str:
    """From a page to what the ledger keeps of a run: its record (`json`) or its digest (`md`)."""
    return f"{up}ledger/runs/{number:020}.{ending}"

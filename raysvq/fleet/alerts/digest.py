"""The end of a run in Markdown, for a mail or a ticket."""

from __future__ import annotations

from collections.abc import Mapping

from raysvq.ledger.records import CameraNight, FleetRun


def digest(run: FleetRun, nights: Mapping[str, CameraNight]) -> str:
    """The verdict in one line, the cameras that need a look, what changed, failures, and numbers.

    Names and sentences are escaped: a file name that is HTML or Markdown is shown as it is spelt.
    """
    raise NotImplementedError

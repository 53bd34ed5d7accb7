"""What is known of trials that have ended, a file each, so that none runs twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from raysvq.storage import join, read_bytes, write_bytes

TOLD = ("look", "figure", "figures", "looks", "seconds", "problem")
MEASURED = ("train_s", "image_ms", "model_mib", "validated")  # of a trial that came to its end


@dataclass(frozen=True)
class Records:
    """The files of one sweep."""

    folder: str

    def find(self, number: int) -> dict[str, Any] | None:
        """What a trial told last; None: it has not ended."""
        try:
            found: dict[str, Any] = json.loads(read_bytes(self._file(number)))
        except FileNotFoundError:
            return None
        return found

    def known(self, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
        """What those of the trials told last that have ended."""
        found = ((number, self.find(number)) for number in numbers)
        return {number: told for number, told in found if told is not None}

    def write(self, number: int, told: dict[str, Any]) -> None:
        """Note that a trial has ended, and what it told last."""
        row = {name: told[name] for name in (*TOLD, *MEASURED) if name in told}
        write_bytes(self._file(number), json.dumps(row).encode())

    def _file(self, number: int) -> str:
        return join(self.folder, f"trial-{number:05d}.json")

"""What is known of trials that have ended, a file each, so that none runs twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from raysvq.storage import exists, join, read_bytes, write_bytes

TOLD = ("look", "figure", "figures", "looks", "seconds", "problem")
MEASURED = ("train_s", "image_ms", "model_mib")  # of a trial that came to its end


@dataclass(frozen=True)
class Records:
    """The files of one sweep."""

    folder: str

    def find(self, number: int) -> dict[str, Any] | None:
        """What a trial told last; None: it has not ended."""
        file = self._file(number)
        found: dict[str, Any] | None = json.loads(read_bytes(file)) if exists(file) else None
        return found

    def write(self, number: int, told: dict[str, Any]) -> None:
        """Note that a trial has ended, and what it told last."""
        row = {name: told[name] for name in (*TOLD, *MEASURED) if name in told}
        write_bytes(self._file(number), json.dumps(row).encode())

    def _file(self, number: int) -> str:
        return join(self.folder, f"trial-{number:05d}.json")

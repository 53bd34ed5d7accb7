"""What stems share that a user brings: a description, and files that travel in the model bundle."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from raysvq.errors import DataError, SettingsError
from raysvq.model.stems.description import FILE, StemSection
from raysvq.model.stems.stem import Stem, Tap


class BroughtStem(Stem):
    """A described stem.

    The bundle's weights hold the digest of its files, so whoever reads other files with them finds out.
    """

    def __init__(self, stem: StemSection, channels: list[int], uri: str, name: str, content: bytes) -> None:
        """`channels` of each tap; `content` of the file that a bundle carries under `name`."""
        described = zip(stem.taps, channels, strict=True)
        super().__init__(tuple(Tap(count, tap.side) for tap, count in described))
        self.uri = uri
        self.multiple = stem.multiple
        self.colours = stem.mean, stem.std
        network = "." if name.endswith(".json") else name
        own = stem.model_copy(update={"network": network}).model_dump(mode="json", exclude_none=True)
        self._files = {FILE: yaml.safe_dump(own, sort_keys=False).encode(), name: content}
        self.digest: Tensor
        self.register_buffer("digest", _digest(self._files))
        self.register_load_state_dict_pre_hook(_require_digest)  # type: ignore[no-untyped-call]

    def files(self) -> Mapping[str, bytes]:
        return self._files

    def normalised(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> what the backbone was trained on, in float32."""
        mean, std = (pixels.new_tensor(colour)[:, None, None] for colour in self.colours)
        return (pixels - mean) / std

    def require_side(self, side: int) -> None:
        if side % self.multiple:
            raise SettingsError(
                f"setting `tiles.size`: {self.uri} takes sides that are multiples of {self.multiple} pixels,"
                f" found {side}; expected one such as {self.nearest(side)}"
            )

    def nearest(self, side: int) -> int:
        """The nearest side that the backbone takes and the grid divides."""
        step = math.lcm(self.multiple, self.cell)
        return max(step, (side + step // 2) // step * step)


def tokens_to_grid(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, T, C) tokens -> (B, C, height, width): the last ones are patches, row by row; others come first."""
    patches = tokens[:, tokens.shape[1] - height * width :]
    return patches.movedim(1, -1).reshape(len(tokens), -1, height, width)


def _digest(files: Mapping[str, bytes]) -> Tensor:
    """SHA-256 of names and contents, 32 bytes."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return torch.frombuffer(bytearray(total.digest()), dtype=torch.uint8)


def _require_digest(
    module: nn.Module, state: Mapping[str, Tensor], prefix: str, *others: Any
) -> None:  # PyTorch calls it before it takes a state
    assert isinstance(module, BroughtStem)
    stored = state.get(f"{prefix}digest")
    if stored is not None and not torch.equal(stored.cpu(), module.digest.cpu()):
        raise DataError(
            f"setting `model.stem`: {module.uri} is not what the model was trained with: found a digest of"
            f" {_hex(module.digest)}, expected {_hex(stored)}"
        )


def _hex(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()

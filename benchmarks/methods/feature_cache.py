"""Frozen features on local disk, so that draws, levels and methods of one command compute them once.

They are float16, as training holds them, so that scores come out the same whether a row was found or not. The
key of a row is its pixels, as cut and resized, and the code, weights and options of the network; so nothing
that decides a feature can change and be missed. Times stay honest: `seconds` has what the clock is to be put
forward by, the time the network took for the rows that were found, less what finding and writing took.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

import raysvq.model
from benchmarks.hardware import clock
from raysvq.model.feature_dictionary import FeatureDictionary
from raysvq.model.network import Network

Extract = Callable[[Network, Tensor], Tensor]

_SECONDS = struct.Struct("<d")  # before the features of a file: what the network took for them
_KNOWN: WeakKeyDictionary[nn.Module, tuple[str, str]] = WeakKeyDictionary()  # state and digest of weights
_PLAIN = (bool, int, float, str, tuple, type(None))


class FeatureCache:
    """Features of single rows of pixels, a file each."""

    def __init__(self, folder: Path) -> None:
        """Start with what is in the folder."""
        self.folder = folder
        self.seconds = 0.0

    def extract(self, network: Network, pixels: Tensor, compute: Extract) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, S, h, w) features, rounded to float16."""
        now = clock(pixels.device)
        started = now()
        prefix = network_digest(network)
        paths = [self._path(prefix, row) for row in pixels.cpu()]
        found = [_read(path) for path in paths]
        missing = [number for number, one in enumerate(found) if one is None]
        if missing:
            begun = now()
            computed = compute(network, pixels[missing]).half().cpu()
            each = (now() - begun) / len(missing)
            for number, features in zip(missing, computed, strict=True):
                found[number] = each, features
                _write(paths[number], each, features)
        taken, rows = zip(*(one for one in found if one is not None), strict=True)
        result = torch.stack(rows).to(pixels.device).float()
        self.seconds += sum(taken) - (now() - started)
        return result

    def _path(self, prefix: str, pixels: Tensor) -> Path:
        content = np.ascontiguousarray(pixels.numpy())
        name = hashlib.blake2b(content.tobytes() + str(content.shape).encode(), digest_size=16).hexdigest()
        return self.folder / prefix / name[:2] / name


@contextlib.contextmanager
def installed(folder: Path | None) -> Iterator[FeatureCache | None]:
    """Within it the features of all networks of this process are kept in a folder; None: they are not."""
    if folder is None:
        yield None
        return
    cache = FeatureCache(folder)
    compute = FeatureDictionary.extract_features

    def extract_features(self: FeatureDictionary, pixels: Tensor) -> Tensor:
        return cache.extract(self, pixels, compute)  # type: ignore[arg-type]  # of this class alone

    FeatureDictionary.extract_features = extract_features  # type: ignore[method-assign]
    try:
        yield cache
    finally:
        FeatureDictionary.extract_features = compute  # type: ignore[method-assign]


def network_digest(network: Network) -> str:
    """16 hexadecimal digits over all but the pixels that decides frozen features."""
    stem = network.get_submodule("stem")
    digest = hashlib.sha256(_code().encode())
    for part in (network, stem):
        plain = {name: value for name, value in vars(part).items() if isinstance(value, _PLAIN)}
        digest.update(repr(sorted((plain | {"training": None}).items())).encode())
    digest.update(_weights(stem).encode())
    return digest.hexdigest()[:16]


def _weights(module: nn.Module) -> str:
    """Digest of a frozen module's weights, computed once for as long as they stay."""
    parameters = list(module.parameters())
    state = str([(one.dtype, one._version) for one in parameters])  # loading weights counts the version up
    known = _KNOWN.get(module)
    if known is None or known[0] != state:
        digest = hashlib.sha256()
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            plain = value.detach().cpu().clone(memory_format=torch.contiguous_format).flatten()
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        known = _KNOWN[module] = state, digest.hexdigest()
    return known[1]


@functools.cache
def _code() -> str:
    """Digest of the source of stems and of what calls them."""
    folder = Path(raysvq.model.__file__).parent
    files = sorted({*folder.glob("stem*"), *folder.glob("stem*/*.py"), folder / "feature_dictionary.py"})
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[float, Tensor] | None:
    if not path.exists():
        return None
    with path.open("rb") as source:
        (seconds,) = _SECONDS.unpack(source.read(_SECONDS.size))
        return seconds, torch.from_numpy(np.load(source))


def _write(path: Path, seconds: float, features: Tensor) -> None:
    """Write features whole: another process may write the same ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as target:
        target.write(_SECONDS.pack(seconds))
        np.save(target, features.contiguous().numpy())
    partial.replace(path)

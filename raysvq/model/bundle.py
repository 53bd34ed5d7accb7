"""The model bundle: everything a scoring job needs, in files that run no code when read.

weights.safetensors   all of the network: its layers, codebook, mean and deviation of its input
stem/                 description and files of a stem that a user brought; their digest is among the weights
decisions.json        thresholds, what they promise, and the scores that calibrated them
bundle.json           settings, reference statistics, training summary
history.json          training curves and codebook usage
reference.parquet     what normal images look like, a row of REFERENCE each; may be missing
card.md               what the others say, for people; nothing reads it
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from raysvq.decisions import Decisions
from raysvq.errors import BundleError, DataError, SettingsError
from raysvq.model.bundle_summary import DECISIONS, WEIGHTS, BundleSummary, Reference, read_files
from raysvq.model.feature_dictionary import FeatureDictionary
from raysvq.model.network import Network, build_network
from raysvq.model.stems.description import FILE
from raysvq.schema import REFERENCE
from raysvq.settings import Settings
from raysvq.settings.model import LITE_NAMES
from raysvq.storage import join, read_bytes, write_bytes

# Names of weights in format 3 -> present names.
_NAMES_OF_FORMAT_3 = {
    "quantizer.counts": "quantizer.cluster_size",
    "quantizer.sums": "quantizer.embed_avg",
}
_UNUSED_OF_FORMAT_3 = ("quantizer.squares", "quantizer.balance")
REFERENCE_FILE = "reference.parquet"
STEM = "stem"
MOST_REFERENCE = 2000  # images in it


@dataclass(frozen=True)
class Bundle(BundleSummary):
    """A trained model with its settings, decisions and reference statistics."""

    model: Network

    @property
    def stem_digest(self) -> str | None:
        """SHA-256 of the weights of the frozen stem; None where all weights are learnt."""
        if not isinstance(self.model, FeatureDictionary):
            return None
        return hashlib.sha256(weights(self.model.stem)).hexdigest()


def make_bundle(
    model: Network,
    settings: Settings,
    reference: Reference,
    decisions: Decisions,
    training: dict[str, Any],
    history: dict[str, Any],
) -> Bundle:
    """Name and date a freshly trained model."""
    digest_of_weights = hashlib.sha256(weights(model)).hexdigest()
    now = datetime.now(UTC)
    return Bundle(
        settings,
        reference,
        decisions,
        training,
        history,
        digest_of_weights,
        f"{now:%Y%m%d-%H%M%S}-{digest_of_weights[:8]}",
        now.isoformat(timespec="seconds"),
        model,
    )


def save_bundle(bundle: Bundle, folder: str) -> None:
    """Write a bundle; bundle.json comes last, so a folder that has one is complete.

    Raises:
        StorageError: the folder may not be written.
    """
    content = weights(bundle.model)
    bundle = replace(bundle, model_digest=hashlib.sha256(content).hexdigest())  # one of format 3 gets another
    write_bytes(join(folder, WEIGHTS), content)
    for name, file in bundle.model.files().items():
        write_bytes(join(folder, STEM, name), file)
    write_bytes(join(folder, "history.json"), json.dumps(bundle.history).encode())
    save_decisions(bundle.decisions, folder)
    save_card(bundle, folder)
    write_bytes(join(folder, "bundle.json"), json.dumps(bundle.summary(), indent=2).encode())


def save_decisions(decisions: Decisions, folder: str) -> None:
    """Write a bundle's decisions, in place of those it has.

    Raises:
        StorageError: the folder may not be written.
    """
    values = {"digest": decisions.digest} | decisions.to_json()
    write_bytes(join(folder, DECISIONS), json.dumps(values).encode())


def save_card(bundle: Bundle, folder: str) -> None:
    """Write a bundle's card, in place of the one it has.

    Raises:
        StorageError: the folder may not be written.
    """
    from raysvq.model.card import CARD, make_card, markdown  # who loads a bundle needs it not

    write_bytes(join(folder, CARD), markdown(make_card(bundle)).encode())


def save_reference(reference: pa.Table, folder: str) -> None:
    """Write rows of REFERENCE into a bundle, in place of those it has; of many the first MOST_REFERENCE.

    Raises:
        StorageError: the folder may not be written.
    """
    content = io.BytesIO()
    pq.write_table(reference.slice(0, MOST_REFERENCE).cast(REFERENCE), content)
    write_bytes(join(folder, REFERENCE_FILE), content.getvalue())


def load_reference(folder: str) -> pa.Table | None:
    """Rows of REFERENCE; None of a bundle without, as earlier versions wrote them.

    Raises:
        BundleError: the file is damaged.
        StorageError: it cannot be read.
    """
    try:
        content = read_bytes(join(folder, REFERENCE_FILE))
    except FileNotFoundError:
        return None
    try:
        return pq.read_table(io.BytesIO(content)).select(REFERENCE.names).cast(REFERENCE)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise BundleError(f"model bundle {folder}: {REFERENCE_FILE} cannot be read: {error}") from None


def load_bundle(folder: str) -> Bundle:
    """Read a bundle, and check its weights and the files of its stem against their digests.

    Raises:
        BundleError: a file is missing or damaged, a threshold or weight is not finite, or the format is
            neither FORMAT nor one of EARLIER, or one of EARLIER for a dictionary of features.
    """
    summary, stored, found = read_files(folder)
    try:
        model = _build(folder, summary.settings)
        state = safetensors.torch.load(stored)
        model.load_state_dict(_from_format_3(state) if found == 3 else state)
        _require_finite(folder, model)
    except DataError as error:
        raise BundleError(f"model bundle {folder}: {error}") from None
    except (SettingsError, SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise BundleError(f"model bundle {folder} does not fit this version: {error}") from None
    return Bundle(**vars(summary), model=model.eval())


def _build(folder: str, settings: Settings) -> Network:
    """The network with random weights; of a stem that a user brought, by what the bundle holds of it."""
    model = settings.model
    if model.encoder == "features" and model.stem not in LITE_NAMES:
        model = model.model_copy(update={"stem": join(folder, STEM, FILE)})
    try:
        return build_network(settings.model_copy(update={"model": model}))
    except SettingsError as error:
        raise BundleError(f"model bundle {folder}: {error}") from None


def _from_format_3(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of format 3, and drop those that a network of pixels never used."""
    return {
        _NAMES_OF_FORMAT_3.get(name, name): value
        for name, value in state.items()
        if name not in _UNUSED_OF_FORMAT_3
    }


def _require_finite(folder: str, model: nn.Module) -> None:
    for name, values in model.state_dict().items():
        if not values.isfinite().all():
            raise BundleError(f"model bundle {folder}: {name} has values that are not finite; train again")


def weights(model: nn.Module) -> bytes:
    """A model's weights and buffers as safetensors."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return safetensors.torch.save(state)

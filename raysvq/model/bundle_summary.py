"""What the files of a bundle say, but for the network that its weights make: read without PyTorch.

`raysvq.model.bundle` says which files there are.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from raysvq import __version__
from raysvq.decisions import Decisions, fixed_decisions
from raysvq.errors import BundleError, DataError, SettingsError
from raysvq.model.engines import EngineName
from raysvq.settings import Settings, digest, parse_settings, with_new_names
from raysvq.storage import join, read_bytes

FORMAT = 7
EARLIER = (3, 4, 5, 6)  # are still read, but for dictionaries of features
DECISIONS = "decisions.json"
WEIGHTS = "weights.safetensors"
OPENVINO_DEVIATION = "openvino_bfloat16_deviation"  # in `Reference.validation`
_WITH_DECISIONS = (5, 6, 7)  # in a file of their own
_THRESHOLDS = ("image_threshold", "threshold_rule", "pixel_threshold")  # of `reference`, in EARLIER


@dataclass(frozen=True)
class Reference:
    """What validation found."""

    normal_scores: dict[str, float]  # quantile -> image score of normal validation images
    validation: dict[str, Any]  # counts, AUROC with its interval, scores of outliers
    bfloat16_deviation: float | None = None  # with PyTorch, see `deviations`

    @property
    def deviations(self) -> dict[EngineName, float | None]:
        """Largest relative change of an image score in bfloat16, by engine; None: not measured."""
        return {"torch": self.bfloat16_deviation, "openvino": self.validation.get(OPENVINO_DEVIATION)}


@dataclass(frozen=True)
class BundleSummary:
    """A trained model's settings, decisions and reference statistics."""

    settings: Settings
    reference: Reference
    decisions: Decisions
    training: dict[str, Any]  # summary: steps, workers, device, seconds, data
    history: dict[str, Any]
    model_digest: str  # of the weights
    model_version: str
    created_at: str

    @property
    def settings_digest(self) -> str:
        """Digest of the resolved settings the model was trained with."""
        return digest(self.settings)

    def summary(self) -> dict[str, Any]:
        """Plain values that identify the bundle, as stored in bundle.json."""
        return {
            "format": FORMAT,
            "model_version": self.model_version,
            "model_digest": self.model_digest,
            "settings_digest": self.settings_digest,
            "code_version": __version__,
            "created_at": self.created_at,
            "settings": self.settings.model_dump(mode="json"),
            "reference": asdict(self.reference),
            "training": self.training,
        }


def read_summary(folder: str) -> BundleSummary:
    """Read a bundle without its network. Its weights are checked against their digest.

    Raises:
        BundleError: a file is missing or damaged, or the format is neither FORMAT nor one of EARLIER, or one
            of EARLIER for a dictionary of features.
    """
    summary, _, _ = read_files(folder)
    return summary


def read_files(folder: str) -> tuple[BundleSummary, bytes, int]:
    """A bundle without its network, the content of its weights, and its format.

    Raises:
        BundleError: as `read_summary`.
    """
    try:
        stored = dict(json.loads(read_bytes(join(folder, "bundle.json"))))
        weights = read_bytes(join(folder, WEIGHTS))
        history = json.loads(read_bytes(join(folder, "history.json")))
        decided = _read_decisions(folder) if stored.get("format") in _WITH_DECISIONS else None
    except FileNotFoundError as error:
        missing = str(error).rstrip("'").rpartition("/")[2]
        raise BundleError(f"{folder} is not a complete model bundle: it has no {missing}") from None
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"model bundle {folder} cannot be read: {error}") from None
    found = stored.get("format")
    if found not in (*EARLIER, FORMAT):
        newer = isinstance(found, int) and found > FORMAT
        raise BundleError(
            f"model bundle {folder}: found format {found!r}, expected"
            f" {', '.join(map(str, EARLIER))} or {FORMAT};"
            f" {'a newer version of raysvq wrote it: install that' if newer else 'train again'}"
        )
    try:
        if hashlib.sha256(weights).hexdigest() != stored["model_digest"]:
            raise BundleError(f"model bundle {folder}: {WEIGHTS} does not match its digest")
        values = stored["settings"]
        settings = parse_settings(with_new_names(values) if found in EARLIER else values)
        _require_same_distance(folder, found, settings)
        reference, decisions = dict(stored["reference"]), decided or _from_earlier(stored["reference"])
        for name in () if decided else _THRESHOLDS:
            del reference[name]
        summary = BundleSummary(
            settings,
            Reference(**reference),
            decisions,
            stored["training"],
            history,
            stored["model_digest"],
            stored["model_version"],
            stored["created_at"],
        )
    except DataError as error:
        raise BundleError(f"model bundle {folder}: {error}") from None
    except (SettingsError, TypeError, KeyError) as error:
        raise BundleError(f"model bundle {folder} does not fit this version: {error}") from None
    return summary, weights, found


def _require_same_distance(folder: str, found: int, settings: Settings) -> None:
    if found in EARLIER and settings.model.encoder == "features":
        raise BundleError(
            f"model bundle {folder}: found a dictionary of features of format {found}, expected {FORMAT}: its"
            " features, distances or image scores were defined otherwise, and would change; train again"
        )


def _read_decisions(folder: str) -> Decisions:
    values = dict(json.loads(read_bytes(join(folder, DECISIONS))))
    stored = values.pop("digest", None)
    try:
        decisions = Decisions.from_json(values)
    except (TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"model bundle {folder}: {DECISIONS} does not fit this version: {error}") from None
    except DataError as error:
        raise BundleError(f"model bundle {folder}: {DECISIONS} cannot be read: {error}") from None
    if decisions.digest != stored:
        raise BundleError(f"model bundle {folder}: {DECISIONS} does not match its digest")
    return decisions


def _from_earlier(reference: dict[str, Any]) -> Decisions:
    """The thresholds of formats 3 and 4, which kept no scores."""
    rule = reference["threshold_rule"]
    policy = "paper" if rule.startswith("|specificity") else "quantile"
    return fixed_decisions(reference["image_threshold"], reference["pixel_threshold"], rule, policy)

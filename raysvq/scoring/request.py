"""What a run is asked for: images, model, score directory, region of interest and decisions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raysvq.data.manifest import open_manifest
from raysvq.decisions import Decisions, refit
from raysvq.imaging.region import Region
from raysvq.model.alias import resolve
from raysvq.model.bundle_summary import BundleSummary, read_summary
from raysvq.scoring.pending import Pending, find_pending
from raysvq.settings import DecisionSettings, ScoringSettings, Settings, digest
from raysvq.storage import canonical, configure

if TYPE_CHECKING:
    import pyarrow.dataset as ds


@dataclass(frozen=True)
class Fitted:
    """Decisions in place of a model's own."""

    decisions: Decisions
    as_json: str  # the same for workers; requests share it


@dataclass(frozen=True)
class Request:
    """What a run is asked for, resolved and opened; made by `open_request` or `Models.request`."""

    manifest: ds.Dataset | None  # None where the rows to score are given
    model: str
    out: str
    bundle: BundleSummary
    settings: Settings
    region: Region | None = None  # outside it nothing is scored
    region_digest: str = ""
    decision: DecisionSettings | None = None  # in place of the model's own
    fitted: Fitted | None = None  # as `decision` says

    @property
    def decisions(self) -> Decisions:
        """What decides: as `decision` says, else as the model brings along."""
        return self.fitted.decisions if self.fitted else self.bundle.decisions

    def digests(self) -> dict[str, str]:
        """Of the model, and of the settings that a row's values depend on: not of how the work is cut up.

        Nor of decisions, which may be fitted anew without a new folder: each row has the digest of its own.
        """
        included = {"max_pixels", "image_memory_mib", "precision"}
        scoring = ScoringSettings.model_validate(self.settings.scoring.model_dump(include=included))
        settings = self.bundle.settings.model_copy(
            update={"scoring": scoring, "decision": DecisionSettings()}
        )
        of_settings = digest(settings)
        if self.region:
            both = f"{of_settings}:{self.region_digest}"
            of_settings = hashlib.sha256(both.encode()).hexdigest()[: len(of_settings)]
        return {"model_digest": self.bundle.model_digest, "settings_digest": of_settings}

    def find_pending(self, folder: Path, also: Sequence[Path] = (), mend: bool = False) -> Pending:
        """The images to score; `folder` is a local one for what does not fit into memory.

        For `also` and `mend` see `raysvq.scoring.pending.find_pending`.
        """
        assert self.manifest is not None
        scoring = self.settings.scoring
        group_by = self.decisions.group_by
        return find_pending(self.manifest, self.out, self.digests(), scoring, folder, also, mend, group_by)


def open_request(manifest: str, model: str, out: str, settings: Settings) -> Request:
    """Open what a run reads. Raises DataError, BundleError, StorageError or SettingsError."""
    configure(settings.storage)
    manifest, model, out = canonical(manifest), resolve(model), canonical(out)
    return Request(open_manifest(manifest), model, out, read_summary(model), settings)


class Models:
    """The models of many requests on the driver, each opened once."""

    def __init__(self, settings: Settings) -> None:
        """`settings`: of scoring, storage and ray, for all requests."""
        configure(settings.storage)
        self._settings = settings
        self._folders: dict[str, str] = {}  # an alias stands for one model, though it changes meanwhile
        self._bundles: dict[str, BundleSummary] = {}
        self._regions: dict[Region, str] = {}
        self._fitted: dict[tuple[str, DecisionSettings], Fitted] = {}

    def request(
        self,
        model: str,
        out: str,
        region: Region | None = None,
        decision: DecisionSettings | None = None,
    ) -> Request:
        """A request whose rows to score are given. `model` is a bundle or an alias, `out` a score directory.

        Raises:
            BundleError: the model is missing or damaged.
            SettingsError: the region's mask cannot be read, or the model cannot decide as `decision` says.
            StorageError: a store does not answer.
        """
        if model not in self._folders:
            self._folders[model] = resolve(model)
        model = self._folders[model]
        if model not in self._bundles:
            self._bundles[model] = read_summary(model)
        bundle = self._bundles[model]
        if region and region not in self._regions:
            self._regions[region] = region.read().digest
        fitted = None
        if decision:
            key = model, decision
            if key not in self._fitted:
                decisions = refit(bundle.decisions, bundle.settings.decision, decision)
                self._fitted[key] = Fitted(decisions, json.dumps(decisions.to_json()))
            fitted = self._fitted[key]
        of_region = self._regions[region] if region else ""
        return Request(
            None, model, canonical(out), bundle, self._settings, region, of_region, decision, fitted
        )

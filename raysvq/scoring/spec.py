"""What workers are sent: it says all that they need to know, and needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from raysvq.imaging.region import Region
from raysvq.model.engines import EXACT, Backend
from raysvq.scoring.work import RejectBudget
from raysvq.settings import ScoringSettings, StorageSettings

MAX_TRIES = 20  # of a work unit
MAX_TRIES_BESIDE_OTHERS = 5  # where other folders wait for their turn
_OF_SCORER = {"max_pixels", "image_memory_mib", "decode_timeout_s", "tile_batch"}  # what it is made with


@dataclass(frozen=True)
class SessionConfig:
    """What a worker session is made of; can be sent to any machine."""

    model: str  # the bundle's folder
    model_version: str  # that the folder held when the run started
    decisions_digest: str  # likewise
    scoring: ScoringSettings
    storage: StorageSettings
    device: str = "cpu"
    backend: Backend = EXACT
    decoders: int = 0  # threads that decode beside a GPU; 0 decodes in the thread that scores
    decisions: str | None = None  # in place of the bundle's own, as JSON
    region: Region | None = None  # outside it nothing is scored
    region_digest: str = ""  # when the run started

    @property
    def of_model(self) -> SessionConfig:
        """The part that sessions share which differ in what follows the network alone, such as decisions."""
        scoring = ScoringSettings.model_validate(self.scoring.model_dump(include=_OF_SCORER))
        return replace(self, scoring=scoring, decisions=None, region=None, region_digest="")


@dataclass(frozen=True)
class Job:
    """What every worker of a run, on one score directory, needs to know."""

    session: SessionConfig
    out: str
    work: str  # URI of the folder with the pending rows and the receipts
    origin: tuple[tuple[str, str], ...]  # provenance columns of the run's rows
    unit_images: int
    budget: RejectBudget
    alone: bool = True  # no other run is in the same Ray job

    @property
    def max_tries(self) -> int:
        """Of each unit."""
        return MAX_TRIES if self.alone else MAX_TRIES_BESIDE_OTHERS

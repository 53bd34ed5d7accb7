"""All settings in their sections. Field descriptions are what `raysvq settings` prints."""

from __future__ import annotations

from pydantic import Field, model_validator

from raysvq.settings.data import SplitSettings, TileSettings
from raysvq.settings.decision import DecisionSettings
from raysvq.settings.model import AnomalySettings, ModelSettings, ObjectiveSettings
from raysvq.settings.scoring import EvaluationSettings, ScoringSettings
from raysvq.settings.section import Section
from raysvq.settings.storage import RaySettings, StorageSettings
from raysvq.settings.training import TrainingSettings
from raysvq.settings.tuning import TuningSettings


class Settings(Section):
    """All settings. Every run stores these, `storage` and `tuning` excepted, resolved, and their digest."""

    split: SplitSettings = SplitSettings()
    tiles: TileSettings = TileSettings()
    model: ModelSettings = ModelSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: TrainingSettings = TrainingSettings()
    anomaly: AnomalySettings = AnomalySettings()
    decision: DecisionSettings = DecisionSettings()
    scoring: ScoringSettings = ScoringSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    ray: RaySettings = RaySettings()
    storage: StorageSettings = Field(StorageSettings(), exclude=True)
    tuning: TuningSettings = Field(TuningSettings(), exclude=True)

    @model_validator(mode="after")
    def _stem_sees_colour(self) -> Settings:
        if self.model.encoder == "features" and self.tiles.channels != 3:
            raise ValueError(
                f"model.encoder=features needs tiles.channels=3, found {self.tiles.channels}; grey images are"
                " replicated"
            )
        return self

    @model_validator(mode="after")
    def _stem_sees_a_halo(self) -> Settings:
        if self.tiles.halo and self.model.encoder == "pixels":
            raise ValueError(
                f"tiles.halo={self.tiles.halo} needs model.encoder=features, found pixels; expected 0"
            )
        return self

"""Every option of raysvq: frozen, validated models; a YAML file, then dotted overrides.

`load_settings("configs/textures.yaml", ["model.codebook_size=256"])` is the whole interface.
Unknown keys and impossible values raise `SettingsError`, naming the key, what was found and
what is allowed.
"""

from raysvq.settings.data import SplitSettings, TileSettings
from raysvq.settings.decision import DecisionSettings
from raysvq.settings.files import find_config, shipped_configs
from raysvq.settings.model import AnomalySettings, ModelSettings, ObjectiveSettings
from raysvq.settings.options import Settings
from raysvq.settings.reading import (
    digest,
    load_settings,
    load_sweep,
    merge_decision,
    parse_settings,
    with_new_names,
)
from raysvq.settings.refusals import describe
from raysvq.settings.scoring import EvaluationSettings, ScoringSettings
from raysvq.settings.storage import RaySettings, StorageSettings
from raysvq.settings.training import TrainingSettings
from raysvq.settings.tuning import TuningSettings

__all__ = [
    "AnomalySettings",
    "DecisionSettings",
    "EvaluationSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "RaySettings",
    "ScoringSettings",
    "Settings",
    "SplitSettings",
    "StorageSettings",
    "TileSettings",
    "TrainingSettings",
    "TuningSettings",
    "describe",
    "digest",
    "find_config",
    "load_settings",
    "load_sweep",
    "merge_decision",
    "parse_settings",
    "shipped_configs",
    "with_new_names",
]

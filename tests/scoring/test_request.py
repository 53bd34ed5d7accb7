"""What many runs are asked for, opened once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from raysvq.errors import BundleError, SettingsError
from raysvq.imaging.region import Region
from raysvq.scoring import request
from raysvq.scoring.request import Models
from raysvq.settings import DecisionSettings
from tests.plates import Plates, make_plates

LEFT = Region(polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
BY_HAND = DecisionSettings(policy="manual", threshold=3.0)


@pytest.fixture
def plates(tmp_path: Path) -> Plates:
    return make_plates(str(tmp_path), 2)


def test_models_and_decisions_are_opened_once(plates: Plates, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    read_summary = request.read_summary
    monkeypatch.setattr(request, "read_summary", lambda folder: loads.append(folder) or read_summary(folder))
    models = Models(plates.settings())
    found = [models.request(plates.model, f"{plates.out}-{n}", LEFT, BY_HAND) for n in range(3)]
    assert loads == [plates.model]
    assert len({id(each.fitted) for each in found}) == 1
    assert found[0].decisions.threshold == 3.0
    assert models.request(plates.model, plates.out).decisions == plates.bundle.decisions


def test_the_settings_digest_is_of_the_region_and_not_of_decisions(plates: Plates, tmp_path: Path) -> None:
    models = Models(plates.settings())
    mask = tmp_path / "mask.png"
    mask.write_bytes(cv2.imencode(".png", np.full((4, 4), 255, np.uint8))[1].tobytes())
    regions = (None, LEFT, Region(mask_uri=str(mask)))
    found = [models.request(plates.model, plates.out, region).digests() for region in regions]
    assert len({each["settings_digest"] for each in found}) == 3
    assert len({len(each["settings_digest"]) for each in found}) == 1
    assert len({each["model_digest"] for each in found}) == 1
    assert models.request(plates.model, plates.out, LEFT, BY_HAND).digests() == found[1]


def test_what_cannot_be_opened_is_named(plates: Plates) -> None:
    models = Models(plates.settings())
    with pytest.raises(BundleError, match="is not a complete model bundle"):
        models.request(f"{plates.folder}/none", plates.out)
    with pytest.raises(SettingsError, match=r"mask .*none\.png cannot be used"):
        models.request(plates.model, plates.out, Region(mask_uri=f"{plates.folder}/none.png"))
    with pytest.raises(SettingsError, match="the model has kept none; expected policy=manual"):
        models.request(plates.model, plates.out, None, DecisionSettings(max_false_alarm_rate=0.1))

"""Images that hang the decoder the first time it meets them: rejected in time, their neighbours scored."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from devtools.hanging_images import HOLDS, SLEEPS, jpeg, python_path
from raysvq.runtime.cluster import connect
from raysvq.scoring.forecast import forecast
from raysvq.settings import RaySettings
from tests.plates import Plates

LIMIT_S = 2.0
HANGING = {"plate-02.jpg": HOLDS, "plate-03.jpg": SLEEPS, "plate-09.jpg": HOLDS}


@pytest.fixture(scope="module")
def plates(no_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plates]:
    """Twelve images, of which three hang; two of those in one work unit."""
    names = [f"plate-{number:02d}.jpg" for number in range(12)]
    plates = Plates(str(tmp_path_factory.mktemp("hangs")), {name: jpeg(n) for n, name in enumerate(names)})
    for number, (name, comment) in enumerate(HANGING.items()):
        plates.put(name, jpeg(50 + number, comment))
    plates.index()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        connect(RaySettings(cpus=2, object_store_mib=128))
        yield plates


def test_each_is_rejected_within_its_deadline_and_the_others_are_scored(plates: Plates) -> None:
    started = time.monotonic()
    plates.score(decode_timeout_s=LIMIT_S, max_rejected=0.5, worst=2)
    assert time.monotonic() - started < 90
    rejects = {name: (row["reason"], row["detail"]) for name, row in plates.rows("rejects").items()}
    assert rejects == dict.fromkeys(HANGING, ("crashed", "decoding took more than 2 s"))
    scores = {name: row["image_score"] for name, row in plates.rows().items()}
    assert scores == pytest.approx(
        {name: score for name, score in plates.direct().items() if name not in HANGING}, rel=1e-5
    )


def test_a_plan_does_not_hang_either(plates: Plates) -> None:
    settings = plates.settings(decode_timeout_s=LIMIT_S)
    plan = forecast(plates.manifest, plates.model, plates.out + "-plan", settings)
    assert (plan.sampled.images, plan.sampled.rejected) == (12, 3)

"""What `inspect --check` says of a fleet, without scoring anything."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from devtools.untrained import untrained_bundle
from raysvq.fleet.views.check import FleetCheck, check_fleet
from raysvq.model.bundle import save_bundle
from raysvq.settings import parse_settings
from tests.fleet.world import FIRST, NETWORK, SECOND, World


def _check(world: World) -> FleetCheck:
    return check_fleet(world.fleet(), FIRST, SECOND)


def _with_overrides(world: World, *overrides: dict[str, object]) -> FleetCheck:
    world.values["overrides"] = list(overrides)
    return _check(world)


def _problems(found: FleetCheck) -> dict[str, tuple[str, ...]]:
    return {camera.camera: camera.problems for camera in found.cameras if camera.problems}


def test_each_camera_has_a_line_with_its_images_its_model_and_the_first_image(world: World) -> None:
    world.put("north.b", SECOND, "b3")
    found = _check(world)
    assert found.is_well
    assert [(camera.camera, camera.images, camera.first) for camera in found.cameras] == [
        ("north.a", 3, str(world.path("north.a", FIRST, "a1"))),
        ("north.b", 3, str(world.path("north.b", FIRST, "b1"))),
    ]
    lines = list(found.lines())
    assert lines[0].split() == ["camera", "images", "model", "first", "image"]
    assert lines[1].split()[:2] == ["north.a", "3"]
    assert lines[-1] == "plant: 2 cameras, 6 images of 2026-05-04 to 2026-05-05, no problems"
    assert json.loads(json.dumps(found.to_json()))["cameras"][0]["first"] == found.cameras[0].first
    assert not Path(world.out).exists()


def test_a_model_that_cannot_be_used_is_named_for_its_cameras_alone(world: World) -> None:
    newer = world.folder / "newer"
    save_bundle(untrained_bundle(parse_settings({"tiles": {"size": 32}, "model": NETWORK}), 1.0), str(newer))
    summary = json.loads((newer / "bundle.json").read_text())
    (newer / "bundle.json").write_text(json.dumps(summary | {"format": 99}))
    models = {
        "missing": "is not a complete model bundle",
        "models@champion": "champion.alias.json does not exist; `raysvq promote` makes an alias",
        "newer": "found format 99, expected 3, 4, 5, 6 or 7;"
        " a newer version of raysvq wrote it: install that",
    }
    for model, why in models.items():
        found = _with_overrides(world, {"match": {"camera": "a"}, "model": model})
        [problem] = _problems(found)["north.a"]
        assert why in problem
        assert _problems(found).keys() == {"north.a"}
        assert not found.is_well
        assert list(found.lines())[2] == f"    problem: {problem}"


def test_images_that_a_model_does_not_fit_are_one_clear_sentence(world: World) -> None:
    large = untrained_bundle(parse_settings({"tiles": {"size": 256}, "model": NETWORK}), 1.0)
    save_bundle(large, str(world.folder / "large"))
    found = _with_overrides(world, {"match": {"camera": "b"}, "model": str(world.folder / "large")})
    assert _problems(found) == {
        "north.b": (
            f"{world.path('north.b', FIRST, 'b1')} has 40 x 40 pixels, less than a tile of its model"
            f" {world.folder}/large (256 x 256); expected a model of smaller tiles, or of whole images",
        )
    }


def test_decisions_masks_and_images_that_cannot_be_used_are_named(world: World) -> None:
    world.path("north.b", FIRST, "b1").write_bytes(b"<html>")
    cv2.imwrite(str(world.folder / "black.png"), np.zeros((8, 8), np.uint8))
    found = _with_overrides(world, {"match": {"camera": "a"}, "region_of_interest": {"mask": "black.png"}})
    problems = _problems(found)
    assert f"mask {world.folder}/black.png is black, expected white inside" in problems["north.a"][0]
    assert f"{world.path('north.b', FIRST, 'b1')} cannot be read: not_an_image" in problems["north.b"][0]


def test_a_camera_without_images_is_explained_by_what_lies_there(world: World) -> None:
    raw = world.folder / "raw/north"
    (raw / "late/2026-01-31").mkdir(parents=True)
    (raw / "late/2026-02-01").mkdir()
    (raw / "otherwise/04.05.2026").mkdir(parents=True)
    (raw / "bare").mkdir()
    found = _check(world)
    what = "no image from 2026-05-04 to 2026-05-05: "
    assert _problems(found) == {
        "north.late": (f"{what}the last name in {raw}/late that fits %Y-%m-%d is 2026-02-01",),
        "north.otherwise": (f"{what}in {raw}/otherwise nothing fits %Y-%m-%d, such as 04.05.2026",),
        "north.bare": (f"{what}nothing is in {raw}/bare",),
    }


def test_a_prefix_that_is_not_there_and_what_is_left_out_are_said(world: World) -> None:
    (world.folder / "raw/north/a" / FIRST.isoformat() / "note.txt").write_text("x")
    world.values["cameras"] = [
        {"images": "raw/{site}/{camera}/{date:%Y-%m-%d}/{name}.png"},
        {"images": "gone/{camera}/{date:%Y-%m-%d}/{name}.png"},
    ]
    found = _check(world)
    assert found.problems == (f"{world.folder}/gone: no such file, folder or bucket",)
    assert found.left_out[0].startswith("skipped 1: .txt files, such as ")
    assert not found.is_well


def test_names_that_are_html_or_cannot_be_printed_are_data(world: World) -> None:
    world.put("north.<b>", FIRST, "<script>alert(1)<\u202e>")
    found = _check(world)
    assert found.is_well
    lines = "\n".join(found.lines())
    assert "north.<b>" in lines
    assert "\u202e" not in lines
    assert r"<script>alert(1)<\u202e>.png" in lines

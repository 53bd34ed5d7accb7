"""docs/fleet.md and deploy/fleet.yaml say what fleet.yaml takes."""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from raysvq.errors import SettingsError
from raysvq.fleet.settings.cameras import Budget, Expect
from raysvq.fleet.settings.file import load_fleet
from raysvq.fleet.settings.sections import (
    AlertSection,
    CameraSection,
    EntrySection,
    FleetSection,
    OverrideSection,
    RegionSection,
)
from raysvq.fleet.settings.template import parse_template

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/fleet.md").read_text()


def test_the_annotated_file_is_valid_and_means_what_it_says() -> None:
    fleet = load_fleet(ROOT / "deploy/fleet.yaml")
    lines, robots, goods = fleet.entries
    camera = fleet.camera(lines, {"site": "north", "line": "line-2", "camera": "cam-071"})
    assert camera.name == "north.line-2.cam-071"
    assert camera.region is not None
    assert camera.region.mask_uri == f"{ROOT}/deploy/masks/cam-07.png"
    assert (camera.expect.at_least, camera.routes) == (20, ("ops",))
    assert camera.decision is not None
    other = fleet.camera(lines, {"site": "south", "line": "line-2", "camera": "cam-071"})
    assert other.region is not None
    assert len(other.region.polygon) == 4
    assert fleet.camera(robots, {"robot": "r1"}).decision is None
    place = robots.template.place(
        "s3://my-bucket/robots/r1/2026/05/04/shift-2/r1_20260504T101112.jpg", fleet.timezone
    )
    assert place is not None
    assert str(place.captured_at) == "2026-05-04 10:11:12+02:00"
    assert fleet.camera(goods, {}).name == "incoming goods"


def test_the_page_s_examples_are_valid(tmp_path: Path) -> None:
    examples = re.findall(r"^```yaml\n(fleet:.*?)^```", PAGE, re.S | re.M)
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "fleet.yaml").write_text(example)
        assert len(load_fleet(tmp_path / "fleet.yaml").entries) == 1


def test_the_first_night_s_template_is_of_the_sample_s_images(tmp_path: Path) -> None:
    example = re.search(r"^```yaml\n(fleet: sample.*?)^```", PAGE, re.S | re.M)
    assert example
    (tmp_path / "fleet.yaml").write_text(example[1])
    [entry] = load_fleet(tmp_path / "fleet.yaml").entries
    image = tmp_path / "runs/demo/sample/images/refinery/2025-03-06/panel-rgb_006.jpg"
    place = entry.template.place(str(image), ZoneInfo("UTC"))
    assert place is not None
    assert (place.fields, str(place.date)) == ({"site": "refinery", "camera": "panel-rgb"}, "2025-03-06")


def test_every_key_stands_in_a_table() -> None:
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    sections = (FleetSection, EntrySection, OverrideSection, CameraSection, AlertSection, RegionSection)
    keys = {name for section in (*sections, Expect, Budget) for name in section.model_fields}
    assert [name for name in sorted(keys) if f"`{name}`" not in rows] == []


def test_the_codes_of_dates_stand_in_the_table() -> None:
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    with pytest.raises(ValueError, match="expected codes of") as refused:
        parse_template("/{camera}/{date:%q}/{name}")
    for code in str(refused.value).partition("codes of ")[2].split():
        assert re.search(rf"{code}\b", rows), code


def test_the_problems_that_the_page_shows_are_those_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(
        "fleet: a\nout: /o\n\nlatness_days: 3\ndefaults:\n  model: m\n\ncameras:\n"
        '- images: "/raw/{site}/{line}{camera}/{date:%Y%m%d}.png"\n\n\n\n\nalerts:\n'
        "  ops: {webhook_env: A, level: loud}\n"
    )
    with pytest.raises(SettingsError) as refused:
        load_fleet(tmp_path / "fleet.yaml")
    found = str(refused.value).replace(f"{tmp_path}/", "")
    shown = re.findall(r"^fleet\.yaml:\d+: .*$", PAGE, re.M)
    assert len(shown) == 3
    for line in shown:
        assert line.removesuffix("…") in found

"""What the scenarios of a night of faults stand on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.night.__main__ import SCENARIOS, main
from benchmarks.night.large_file import write_tiff
from benchmarks.night.outcome import Outcome
from raysvq.imaging.decode import decode_image


def test_the_large_tiff_is_one(tmp_path: Path) -> None:
    digest = write_tiff(tmp_path / "a.tif", 300)
    content = (tmp_path / "a.tif").read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert decode_image(content, 10**6).shape[:2] == (300, 300)


def test_an_outcome_says_its_figures_and_its_problems() -> None:
    outcome = Outcome("listing", {"keys": 5}, seconds=1.25)
    assert outcome.line() == "listing       1.2 s  keys 5: as it must be"
    outcome.require(True, "never said")
    outcome.require(False, "one is lost")
    assert outcome.line().endswith("keys 5: one is lost")


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["one is lost"], 1)])
def test_a_scenario_that_fails_fails_the_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problems: list[str], code: int
) -> None:
    monkeypatch.setattr("benchmarks.night.__main__.run", lambda name: Outcome(name, problems=problems))
    monkeypatch.setattr("sys.argv", ["night", "--json", str(tmp_path / "night.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert (tmp_path / "night.json").read_text().count('"scenario"') == len(SCENARIOS)

"""People are told once, in one message a route, at hours that suit them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from raysvq.errors import DataError
from raysvq.fleet.alerts import AlertReport, send_alerts
from raysvq.fleet.alerts.message import MAX_LINES
from raysvq.fleet.settings.cameras import Route
from raysvq.fleet.settings.file import load_fleet
from raysvq.fleet.settings.sections import AlertSection
from raysvq.ledger.records import CameraNight, Finding, FleetRun
from tests.fleet.alerts.conftest import SECRET, Receiver
from tests.fleet.alerts.nights import NOON, QUIET, finding, fleet, night, nights, run, webhook

DAY = timedelta(days=1)
DOCS = Path(__file__).parents[3] / "docs"


class Plant:
    """A fleet with a route, night after night."""

    def __init__(self, out: Path, **route: object) -> None:
        self.fleet = fleet(out, ops=webhook(**route))
        self.number = 0

    def inspect(
        self, *given: CameraNight, now: datetime | None = None, of: FleetRun | None = None
    ) -> AlertReport:
        self.number += 1
        now = now or NOON + (self.number - 1) * DAY
        return send_alerts(of or run(self.number), nights(*given), self.fleet, now, {})


def changes(receiver: Receiver) -> list[list[tuple[str, str]]]:
    """Of each message, the changes and cameras it told of."""
    return [[(each["change"], each["camera"]) for each in body["alerts"]] for body in receiver.bodies]


def test_a_finding_that_lasts_is_told_once_then_again_after_a_week_and_once_when_it_is_over(
    receiver: Receiver, tmp_path: Path
) -> None:
    plant = Plant(tmp_path)
    dark = night("cam-07", finding("cam-07"))
    reports = [plant.inspect(dark, night("cam-08")) for _ in range(9)]
    assert [report.sent for report in reports] == [1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert [report.repeated for report in reports] == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert plant.inspect(night("cam-07"), night("cam-08")).sent == 1
    assert plant.inspect(night("cam-07"), night("cam-08")) == AlertReport()
    assert changes(receiver) == [[("new", "cam-07")], [("lasting", "cam-07")], [("over", "cam-07")]]


def test_what_gets_worse_is_told_again_and_what_gets_better_is_not(
    receiver: Receiver, tmp_path: Path
) -> None:
    plant = Plant(tmp_path)
    for level in ("warning", "error", "warning", "error"):
        plant.inspect(night("cam-07", finding("cam-07", level=level)))
    assert changes(receiver) == [[("new", "cam-07")], [("worse", "cam-07")]]


def test_a_route_for_errors_hears_of_errors_alone(receiver: Receiver, tmp_path: Path) -> None:
    plant = Plant(tmp_path, level="error")
    plant.inspect(
        night("cam-07", finding("cam-07"), finding("cam-07", "volume", "info")),
        night("cam-08", finding("cam-08", "freshness", "error")),
    )
    assert changes(receiver) == [[("new", "cam-08")]]


def test_a_camera_that_was_not_looked_at_has_not_recovered(receiver: Receiver, tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.inspect(night("cam-07", finding("cam-07")), night("cam-08"))
    plant.inspect(night("cam-08"))  # as with --only
    plant.inspect(night("cam-07", scored=0, state="quiet"))
    failed = plant.inspect(night("cam-07", failure="s3://raw/cam-07: access denied", state="failed"))
    assert failed.sent == 1
    assert changes(receiver) == [[("new", "cam-07")], [("new", "cam-07")]]
    assert receiver.bodies[1]["alerts"][0]["signal"] == "run"
    plant.inspect(night("cam-07", scored=0, state="quiet"))
    assert changes(receiver)[2:] == [[("over", "cam-07")]], "it ran; whether it is still dark is not known"


def test_problems_of_the_run_are_told_like_those_of_cameras(receiver: Receiver, tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.inspect(night("cam-07"), of=run(1, problems=("s3://raw/south: no such bucket",)))
    assert receiver.bodies[0]["title"] == "north-plant: 1 error at the run itself"
    assert "error: s3://raw/south: no such bucket" in receiver.bodies[0]["text"]
    plant.inspect(night("cam-07"), of=run(2, arguments={"only": ["cam-07"]}))
    assert len(receiver.bodies) == 1
    plant.inspect(night("cam-07"))
    assert receiver.bodies[1]["title"] == "north-plant: over at the run itself"


def test_500_cameras_that_fail_at_once_are_one_message_that_leaves_nothing_uncounted(
    receiver: Receiver, tmp_path: Path
) -> None:
    plant = Plant(tmp_path)
    failed = [night(f"cam-{n:03}", failure=f"cam-{n:03} is full of dust", state="failed") for n in range(500)]
    assert plant.inspect(*failed).sent == 500
    assert plant.inspect(*failed) == AlertReport()
    (body,) = receiver.bodies
    assert body["title"] == "north-plant: 500 errors at 500 cameras"
    assert len(body["alerts"]) == MAX_LINES
    assert body["left_out"] == 500 - MAX_LINES
    lines = body["text"].splitlines()
    assert len(lines) == MAX_LINES + 3
    assert lines[-2:] == [
        f"and {500 - MAX_LINES} more",
        f"Run 1, night of 2026-11-12: {tmp_path}/page/index.html",
    ]


@pytest.mark.parametrize(
    ("at", "is_quiet"),
    [
        ("2026-11-12T20:59:00", False),  # 21:59 in Berlin
        ("2026-11-12T21:00:00", True),
        ("2026-11-12T23:30:00", True),
        ("2026-11-13T04:59:59", True),
        ("2026-11-13T05:00:00", False),
        ("2026-03-29T03:59:00", True),  # 05:59 in Berlin, two hours ahead of UTC since an hour of that night
        ("2026-03-29T04:00:00", False),
        ("2026-10-25T04:30:00", True),  # 05:30: one hour ahead again
        ("2026-10-25T05:00:00", False),
    ],
)
def test_quiet_hours_are_those_of_the_fleets_clocks(
    receiver: Receiver, tmp_path: Path, at: str, is_quiet: bool
) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    report = Plant(tmp_path, quiet_hours=QUIET).inspect(night("cam-07", finding("cam-07")), now=now)
    assert (report.held, report.sent, len(receiver.bodies)) == ((1, 0, 0) if is_quiet else (0, 1, 1))


def test_what_quiet_hours_held_is_told_by_the_first_run_after_them(
    receiver: Receiver, tmp_path: Path
) -> None:
    plant = Plant(tmp_path, quiet_hours=QUIET)
    in_the_night, morning = datetime(2026, 11, 12, 1, tzinfo=UTC), datetime(2026, 11, 12, 6, tzinfo=UTC)
    assert plant.inspect(night("cam-07", finding("cam-07")), now=in_the_night).held == 1
    # Nothing new came: its exposure is not measured a second time.
    assert plant.inspect(night("cam-07", scored=0, state="quiet"), now=morning) == AlertReport(sent=1)
    assert changes(receiver) == [[("new", "cam-07")]]


def test_what_was_held_and_is_over_by_the_morning_is_told_as_over(receiver: Receiver, tmp_path: Path) -> None:
    plant = Plant(tmp_path, quiet_hours=QUIET)
    plant.inspect(night("cam-07", finding("cam-07")), now=datetime(2026, 11, 12, 1, tzinfo=UTC))
    plant.inspect(night("cam-07"), now=datetime(2026, 11, 12, 6, tzinfo=UTC))
    plant.inspect(night("cam-07"), now=datetime(2026, 11, 12, 7, tzinfo=UTC))
    assert changes(receiver) == [[("over", "cam-07")]]


def test_errors_break_through_quiet_hours_where_the_route_says_so(receiver: Receiver, tmp_path: Path) -> None:
    plant = Plant(tmp_path, quiet_hours=QUIET, wake_for_errors=True)
    report = plant.inspect(
        night("cam-07", finding("cam-07")),
        night("cam-08", finding("cam-08", level="error")),
        now=datetime(2026, 11, 12, 1, tzinfo=UTC),
    )
    assert report == AlertReport(sent=1, held=1)
    assert changes(receiver) == [[("new", "cam-08")]]


def test_a_route_may_ask_for_more_than_one_night(receiver: Receiver, tmp_path: Path) -> None:
    plant = Plant(tmp_path, min_runs=2)
    dark, well = night("cam-07", finding("cam-07")), night("cam-07")
    assert [plant.inspect(each).sent for each in (dark, well, dark, dark, dark)] == [0, 0, 0, 1, 0]


def test_a_camera_tells_its_own_routes(receiver: Receiver, tmp_path: Path) -> None:
    plant = fleet(tmp_path, ops=webhook(), maintenance=webhook())
    given = nights(night("cam-07", finding("cam-07")), night("cam-08", finding("cam-08")))
    routes_of = {"cam-07": ("maintenance",), "cam-08": ()}
    assert send_alerts(run(), given, plant, NOON, routes_of).sent == 1
    assert [(body["id"], body["counts"]) for body in receiver.bodies] == [
        ("north-plant/run-1/maintenance", {"new": 1})
    ]


def test_a_route_that_fails_is_named_without_its_url_and_owes_its_alerts(
    receiver: Receiver, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    plant = Plant(tmp_path)
    receiver.answers = [403, 200]
    dark = night("cam-07", finding("cam-07"))
    failed = plant.inspect(dark)
    assert failed == AlertReport(failed={"ops": "it answered 403, expected 2xx"})
    assert plant.inspect(dark).sent == 1
    shown = "".join(capfd.readouterr()) + caplog.text + repr(failed)
    stored = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert SECRET not in shown + stored
    assert receiver.url.split("/")[2] not in shown + stored


def test_a_route_without_its_variable_fails_alone(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAIL", raising=False)
    plant = Plant(tmp_path)
    plant.fleet = fleet(tmp_path, ops=webhook(), mail=webhook().model_copy(update={"url_env": "MAIL"}))
    report = plant.inspect(night("cam-07", finding("cam-07")))
    assert report == AlertReport(sent=1, failed={"mail": "the environment variable MAIL is not set"})


def test_a_healthy_night_writes_and_sends_nothing(receiver: Receiver, tmp_path: Path) -> None:
    assert Plant(tmp_path).inspect(night("cam-07")) == AlertReport()
    assert not receiver.bodies
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "open.json is damaged: expected open alerts by route"),
        (b'{"format": 1, "routes": {"ops": [{}]}}', "open.json is damaged"),
        (b'{"format": 2}', "open.json has format 2, expected 1: a later version of raysvq wrote it"),
    ],
)
def test_a_state_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "ledger" / "alerts" / "open.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(DataError, match=why):
        Plant(tmp_path).inspect(night("cam-07", finding("cam-07")))


def test_names_that_are_markup_or_no_text_reach_the_route_as_words(
    receiver: Receiver, tmp_path: Path
) -> None:
    plant = Plant(tmp_path)
    name = "<script>alert(1)</script>\n<!channel> \udc80.png"
    failed = night("cam-07", failure=f"cannot read {name}", state="failed")
    assert plant.inspect(failed).sent == 1
    assert plant.inspect(failed) == AlertReport()
    (body,) = receiver.bodies
    assert "error: cam-07: cannot read ‹script›alert(1)‹/script› ‹!channel› .png" in body["text"]
    assert body["alerts"][0]["sentence"].startswith("cannot read <script>"), "data are as they were found"


def test_of_a_camera_that_left_the_fleet_nothing_is_repeated(receiver: Receiver, tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.inspect(night("cam-07", finding("cam-07")), night("cam-08"))
    for _ in range(100):
        plant.inspect(night("cam-08"))
    assert changes(receiver) == [[("new", "cam-07")]]
    assert b"cam-07" not in (tmp_path / "ledger" / "alerts" / "open.json").read_bytes()


def test_a_finding_has_its_numbers_in_the_body(receiver: Receiver, tmp_path: Path) -> None:
    found = Finding("cam-07", "exposure", "warning", "cam-07 is darker", -0.8, 0.1, 0.001, "2026-11-10")
    Plant(tmp_path).inspect(night("cam-07", found))
    assert receiver.bodies[0]["alerts"] == [
        {"change": "new", "camera": "cam-07", "signal": "exposure", "level": "warning"}
        | {"sentence": "cam-07 is darker", "value": -0.8, "reference": 0.1, "p_value": 0.001}
        | {"since": "2026-11-10"}
    ]


def test_the_docs_routes_are_what_a_fleet_reads(tmp_path: Path) -> None:
    (sample,) = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "alerts.md").read_text(), re.S | re.M)
    images = {"images": f"{tmp_path}/{{camera}}/{{date:%Y-%m-%d}}/{{name}}.png"}
    values = {"fleet": "plant", "out": str(tmp_path / "out"), "cameras": [images]} | yaml.safe_load(sample)
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(values))
    routes = load_fleet(tmp_path / "fleet.yaml").routes
    assert routes["ops"] == webhook(quiet_hours=QUIET, wake_for_errors=True)
    assert routes["maintenance"] == Route(
        kind="apprise", url_env="MAINTENANCE_URL", level="error", repeat_after=DAY
    )
    rows = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "alerts.md").read_text(), re.M))
    assert set(AlertSection.model_fields) <= rows

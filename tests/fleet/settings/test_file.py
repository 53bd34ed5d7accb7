"""fleet.yaml: what it means, and what is wrong with it, line by line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from raysvq.errors import SettingsError
from raysvq.fleet.settings.cameras import Camera
from raysvq.fleet.settings.file import load_fleet
from raysvq.fleet.settings.fleet import Fleet
from raysvq.storage import write_bytes

HEAD = """\
fleet: north
out: s3://bucket/fleet
defaults:
  model: models@champion
"""
ENTRY = """\
cameras:
  - images: "s3://raw/{site}/{camera}/{date:%Y-%m-%d}/{name}.png"
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(dedent(text))
    return path


def _camera(fleet: Fleet, camera: str, entry: int = 0, site: str = "n") -> Camera:
    return fleet.camera(fleet.entries[entry], {"site": site, "camera": camera})


def _problems(folder: Path, text: str) -> list[str]:
    """Each problem as `line: text`."""
    path = _file(folder, text)
    with pytest.raises(SettingsError) as refused:
        load_fleet(path)
    *head, last = str(refused.value).splitlines()
    assert head[:1] == [f"{len(head)} problems in {path}:"] or not head
    return [line.removeprefix(f"{path}:") for line in [*head[1:], last]]


def test_an_entry_overrides_the_defaults_and_later_overrides_win(tmp_path: Path) -> None:
    text = (
        HEAD
        + """\
  expect: {every: 12h, at_least: 40}
  decision: {policy: max_false_alarm_rate, max_false_alarm_rate: 0.02}
cameras:
  - images: "s3://raw/{site}/{camera}/{date:%Y-%m-%d}/{name}.png"
    budget: {max_seconds: 60}
overrides:
  - match: {camera: "cam-0*"}
    expect: {at_least: 5}
    retention_days: 90
  - match: {site: n, camera: cam-07}
    model: s3://models/seven
    decision: {max_false_alarm_rate: 0.001}
    region_of_interest: {polygon: [[0, 0], [1, 0], [1, 0.5]]}
    retention_days: null
"""
    )
    fleet = load_fleet(_file(tmp_path, text))
    plain, zero, seven = (_camera(fleet, name) for name in ("x", "cam-01", "cam-07"))
    assert plain.model == f"{tmp_path}/models@champion"
    assert plain.name == "n.x"
    assert (plain.expect.every, plain.expect.at_least) == (timedelta(hours=12), 40)
    assert (plain.budget.max_seconds, plain.budget.max_rejected) == (60, 0.02)
    assert (zero.expect.every, zero.expect.at_least, zero.retention_days) == (timedelta(hours=12), 5, 90)
    assert (seven.model, seven.retention_days, seven.expect.at_least) == ("s3://models/seven", None, 5)
    assert seven.region is not None
    assert seven.region.polygon == ((0, 0), (1, 0), (1, 0.5))
    assert [camera.decision and camera.decision.max_false_alarm_rate for camera in (plain, seven)] == [
        0.02,
        0.001,
    ]
    assert _camera(fleet, "cam-07", site="s").model == plain.model
    assert len({plain, zero, seven, _camera(fleet, "x")}) == 3  # they can be keys


def test_a_camera_can_be_named_where_the_template_has_no_field(tmp_path: Path) -> None:
    text = (
        HEAD
        + """\
cameras:
  - {camera: press 3, images: "raw/{date:%Y-%m-%d}/{name}.png"}
  - {camera: stock, images: "/stock/{name}", whole_prefix: true}
overrides: [{match: {camera: press*}, retention_days: 7}]
"""
    )
    fleet = load_fleet(_file(tmp_path, text))
    press = fleet.camera(fleet.entries[0], {})
    assert (press.name, press.fields, press.retention_days) == ("press 3", (("camera", "press 3"),), 7)
    assert fleet.entries[0].template.root == f"{tmp_path}/raw"
    assert fleet.camera(fleet.entries[1], {}).retention_days is None
    assert press.folder("s3://out/") == "s3://out/cameras/press%203"


def test_routes_name_variables_and_cameras_have_all_of_them(tmp_path: Path) -> None:
    text = (
        HEAD
        + """\
  alerts: [ops]
alerts:
  ops: {webhook_env: OPS_WEBHOOK, level: error, quiet_hours: "22:00-06:30"}
  mail: {apprise_env: MAIL_URL, repeat_after: 2d}
overrides: [{match: {camera: a}, alerts: []}, {match: {camera: b}, alerts: null}]
"""
        + ENTRY
    )
    fleet = load_fleet(_file(tmp_path, text))
    assert [_camera(fleet, name).routes for name in "xab"] == [("ops",), (), ("ops", "mail")]
    ops, mail = fleet.routes["ops"], fleet.routes["mail"]
    assert (ops.kind, ops.url_env, ops.level) == ("webhook", "OPS_WEBHOOK", "error")
    assert [f"{moment:%H:%M}" for moment in ops.quiet_hours or ()] == ["22:00", "06:30"]
    assert (mail.kind, mail.url_env, mail.repeat_after) == ("apprise", "MAIL_URL", timedelta(days=2))


def test_every_problem_has_its_line_and_what_is_allowed(tmp_path: Path) -> None:
    text = """\
fleet: north
out: s3://bucket/fleet
timezone: Europe/Berln
latness_days: 3
defaults:
  expect: {every: 1day}
  region_of_interest: {polygon: [[0, 0], [1.5, 0], [1, 1]]}
cameras:
  - images: "s3://raw/{site}/{line}{camera}/{date:%Y-%m-%d}/{name}.png"
    buget: {max_rejected: 3}
  - images: "s3://raw/{site}/{name}.png"
overrides:
  - match: {site: 7}
alerts:
  ops: {webhook_env: WEBHOOK, level: loud}
settings:
  scoring: {batch_images: 0}
"""
    found = dict(problem.split(": ", 1) for problem in _problems(tmp_path, text))
    assert found == {
        "3": "`timezone`: found 'Europe/Berln', expected the name of a time zone, such as Europe/Berlin or"
        " UTC",
        "4": "`latness_days` is unknown; did you mean `lateness_days`? allowed are fleet, out, timezone,"
        " lateness_days, catch_up_days, defaults, cameras, overrides, alerts, watch, settings",
        "6": "`expect.every`: found '1day', expected a number and s, m, h, d or w, such as 90m, 36h or 1d",
        "7": "`region_of_interest`: corner [1.5, 0.0] of the polygon; expected [x, y] in fractions of width"
        " and height, each from 0 to 1",
        "9": "`images`: {line}{camera} is ambiguous; expected text between the two",
        "10": "`buget` is unknown; did you mean `budget`? allowed are model, decision, region_of_interest,"
        " expect, budget, retention_days, alerts, images, camera, whole_prefix",
        "11": "`images`: found no date in the template; expected one, such as {date:%Y-%m-%d}, or"
        " `whole_prefix: true`, which lists all of it every time",
        "13": "`match.site`: expected text, found 7",
        "15": "`alerts.ops.level`: should be 'info', 'warning' or 'error', found 'loud'",
        "17": "`settings.scoring.batch_images`: should be greater than or equal to 1, found 0",
    }


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["1: found nothing, expected keys such as `fleet:`, `out:` and `cameras:`"]),
        ("- a\n", ["1: found a list, expected keys such as `fleet:`, `out:` and `cameras:`"]),
        (
            "fleet: a\nout: [\n",
            ["3: not valid YAML: expected the node content, but found the end of the file"],
        ),
        ("fleet: a\nfleet: b\n", ["2: `fleet` stands twice; expected each key once"]),
        (HEAD + "cameras: []\n", ["5: `cameras`: expected at least one"]),
        (
            HEAD + "cameras: {images: x}\n",
            ["5: `cameras`: expected a list, each item behind a `-`, found keys with values"],
        ),
        (HEAD + "cameras: [raw]\n", ["5: `cameras.0`: expected keys with values, found text"]),
        (
            "fleet:\nout: 2.5\nlateness_days: 2.5\n",
            [
                "1: `fleet`: expected text, found nothing",
                "1: `cameras` is missing",
                "2: `out`: expected text, found 2.5",
                "3: `lateness_days`: expected a whole number, found 2.5",
            ],
        ),
        ("fleet: {a: 'secret}\n", ["2: not valid YAML: found unexpected end of stream"]),
        ("fleet: [1\n", ["2: not valid YAML: expected ',' or ']', but got the end of the file"]),
        (
            HEAD + 'cameras: [{images: "s3://bucket/fleet/{camera}/{date:%Y%m%d}.png"}]\n',
            ["5: `images`: s3://bucket/fleet lies in `out`, s3://bucket/fleet, where results go;"],
        ),
        (
            HEAD + 'cameras: [{images: "s3:/raw/{camera}/{date:%Y%m%d}.png"}]\n',
            [
                "5: `images`: found 's3:/raw/{camera}/{date:%Y%m%d}.png', expected two slashes behind the"
                " colon, as in s3://bucket/prefix"
            ],
        ),
        (HEAD + "cameras: [{camera: a}]\n", ["5: `images` is missing"]),
        (
            f"fleet: a\nout: /out\n{ENTRY}",
            ["4: `model` is missing; expected it in the defaults or the entry"],
        ),
        (
            HEAD + ENTRY + "    camera: a\n",
            ["7: `camera`: found 'a', but the template names its cameras by {site}, {camera}; leave it out"],
        ),
        (
            HEAD + 'cameras: [{images: "s3://raw/{date:%Y%m%d}.png"}]\n',
            ["5: `images`: found no field that names cameras; expected {camera}, or `camera: NAME`"],
        ),
        (
            HEAD + ENTRY + "    whole_prefix: true\n",
            ["7: `whole_prefix`: found true, and a date in the template"],
        ),
        (
            HEAD + ENTRY + '  - images: "s3://raw/{a}/{b}/{date:%Y-%m-%d}/{name}.png"\n',
            ["7: `images`: s3://raw/{a}/{b}/{date:%Y-%m-%d}/{name}.png claims the images of line 6;"],
        ),
        (
            HEAD
            + 'cameras:\n- {camera: a, images: "/a/{date:%Y%m%d}.png"}\n'
            + '- {camera: a, images: "/b/{date:%Y%m%d}.png"}\n',
            ["7: `camera`: 'a' is the camera of line 6, too"],
        ),
        (
            HEAD + ENTRY + "overrides:\n  - {match: {camra: x}, retention_days: 3}\n",
            ["8: `match`: no entry has all of camra; fields are camera, site"],
        ),
        (
            HEAD + "  decision: {group_by: lot}\n" + ENTRY,
            ["5: `decision.group_by`: found 'lot', which is no field of the template; fields are"],
        ),
        (
            HEAD + ENTRY + "overrides: [{match: {site: n}, decision: {group_by: lot}}]\n",
            ["7: `decision.group_by`: found 'lot', which is no field of the template; fields are"],
        ),
        (HEAD + ENTRY + "overrides: [{retention_days: 3}]\n", ["7: `match` is missing"]),
        (
            HEAD + ENTRY + "    alerts: [opps]\n",
            ["7: `alerts.0`: there is no route 'opps'; defined are none"],
        ),
        (
            HEAD + ENTRY + "    expect: {warn_after: 2d, error_after: 1d}\n",
            ["7: `expect`: warn_after is longer than error_after; expected the warning first"],
        ),
        (
            HEAD + "  decision: {policy: manual}\n" + ENTRY,
            ["5: `decision`: policy=manual needs decision.threshold"],
        ),
        (
            HEAD + "  retention_days: yes\n" + ENTRY,
            ["5: `retention_days`: expected something else than true or false"],
        ),
        (
            HEAD + ENTRY + "settings: {model: {hidden: 8}}\n",
            ["7: `settings.model` is unknown; allowed are scoring"],
        ),
    ],
)
def test_each_problem_is_one_clear_sentence(tmp_path: Path, text: str, problems: list[str]) -> None:
    found = _problems(tmp_path, text)
    assert len(found) == len(problems), found
    for one, expected in zip(found, problems, strict=True):
        assert one.startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + ENTRY + "settings: {storage: {secret_access_key: hunter2}}\n",
        HEAD + ENTRY + "settings: {storage: {secret_acess_key: hunter2}}\n",
        HEAD + ENTRY + "settings: {storage: hunter2}\n",
        HEAD + ENTRY + 'alerts: {ops: {webhook_env: "https://hooks.example/hunter2"}}\n',
        HEAD + ENTRY + 'alerts: {ops: {url: "https://hooks.example/hunter2"}}\n',
        HEAD + ENTRY + 'alerts: {ops: "https://hooks.example/hunter2"}\n',
        HEAD + 'cameras: [{images: "s3://key:hunter2@raw/{c}/{date:%Y%m%d}.png"}]\n',
    ],
)
def test_a_secret_is_refused_and_never_repeated(tmp_path: Path, text: str) -> None:
    assert "hunter2" not in "".join(_problems(tmp_path, text))


def test_results_in_ray_s_copy_of_the_working_folder_would_be_lost(tmp_path: Path) -> None:
    copy = tmp_path / "runtime_resources/working_dir_files/_ray_pkg_1"
    copy.mkdir(parents=True)
    [problem] = _problems(copy, HEAD.replace("s3://bucket/fleet", "runs/fleet") + ENTRY)
    assert problem.startswith(f"2: `out`: {copy}/runs/fleet lies in Ray's copy of --working-dir")
    assert load_fleet(_file(copy, HEAD + ENTRY)).out == "s3://bucket/fleet"


def test_values_of_the_command_line_take_the_place_of_the_file_s(tmp_path: Path) -> None:
    path = _file(tmp_path, HEAD + ENTRY)
    fleet = load_fleet(
        path, ["lateness_days=5", "scoring.worst=3", "watch.enabled=false", "defaults.retention_days=9"]
    )
    assert (fleet.lateness_days, fleet.settings.scoring.worst, fleet.watch.enabled) == (5, 3, False)
    assert _camera(fleet, "x").retention_days == 9
    with pytest.raises(
        SettingsError, match=r"^--set: `lateness_days`: expected a whole number, found 'many'$"
    ):
        load_fleet(path, ["lateness_days=many"])
    with pytest.raises(SettingsError, match="expected name=value"):
        load_fleet(path, ["lateness_days"])


def test_the_digest_is_of_what_the_file_says_and_not_of_the_store(tmp_path: Path) -> None:
    path = _file(tmp_path, HEAD + ENTRY)
    digest = load_fleet(path).digest
    assert digest == load_fleet(path, ["storage.retry_s=5"]).digest
    assert digest == load_fleet(_file(tmp_path, f"# a comment\n{HEAD}{ENTRY}")).digest
    assert digest != load_fleet(path, ["defaults.retention_days=9"]).digest


def test_overrides_that_contradict_each_other_are_named_for_their_camera(tmp_path: Path) -> None:
    text = (
        HEAD
        + ENTRY
        + """\
overrides:
  - {match: {camera: "a*"}, expect: {warn_after: 2d}}
  - {match: {camera: "*b"}, expect: {error_after: 1d}}
"""
    )
    fleet = load_fleet(_file(tmp_path, text))
    assert _camera(fleet, "b").expect.error_after == timedelta(days=1)
    with pytest.raises(SettingsError, match=r"fleet\.yaml:9: `expect`: warn_after is longer"):
        _camera(fleet, "ab")


def test_names_of_folders_are_safe_and_differ_as_the_names_do(tmp_path: Path) -> None:
    fleet = load_fleet(_file(tmp_path, HEAD + ENTRY))
    names = ["a", "A", "a b", "a%20b", "..", ".", ".a", "<script>", "ä", "x" * 300, "x" * 301, "a\nb", "a/b"]
    folders = [_camera(fleet, name, site=".").folder("/out").removeprefix("/out/cameras/") for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert folder.isascii()
        assert not set(folder) & set('/\\<>:"|?* \n')
        assert not folder.startswith(".")
        assert len(folder) < 200


def test_a_file_in_a_bucket_is_read_and_paths_in_it_are_taken_from_there(s3: str) -> None:
    text = HEAD + ENTRY + '  - {camera: x, images: "raw/{date:%Y%m%d}/{name}.png", model: "/models/x"}\n'
    write_bytes(f"{s3}/plant/fleet.yaml", text.encode())
    fleet = load_fleet(f"{s3}/plant/fleet.yaml")
    assert _camera(fleet, "a").model == f"{s3}/plant/models@champion"
    assert fleet.entries[1].template.root == f"{s3}/plant/raw"
    assert fleet.camera(fleet.entries[1], {}).model == "/models/x"
    with pytest.raises(
        SettingsError, match=r"^s3://.*/none\.yaml: cannot be read \(No such file or directory\)$"
    ):
        load_fleet(f"{s3}/none.yaml")


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read \(No such file or directory\)$"):
        load_fleet(tmp_path / "none.yaml")
    (tmp_path / "fleet.yaml").write_bytes(b"fleet: \xff")
    with pytest.raises(SettingsError, match=r"fleet\.yaml:1: not valid YAML: it is not UTF-8 text"):
        load_fleet(tmp_path / "fleet.yaml")

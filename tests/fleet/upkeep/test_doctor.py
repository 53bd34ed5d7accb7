"""What `raysvq doctor` finds, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from devtools.fake_s3 import BUCKET, FakeS3
from raysvq.cli import main
from raysvq.fleet.upkeep.doctor import Check, check_folder, check_nodes, doctor
from raysvq.fleet.upkeep.nodes import Node, Unreachable, this_node
from tests.fleet.world import World

GIB = 2**30
NODE = Node(
    "head", (("Python", "3.11.9"), ("raysvq", "1"), ("ray", "2.60")), (), "/tmp", 50 * GIB, 0.0, (0.0, 0.0)
)


def _levels(checks: list[Check]) -> dict[str, str]:
    return {check.subject: check.level for check in checks}


def test_a_healthy_fleet_has_no_line_to_act_on_and_nothing_is_left_behind(world: World) -> None:
    world.values["alerts"] = {"ops": {"webhook_env": "OPS_WEBHOOK"}}
    checks = list(doctor(world.fleet(), [NODE], {"OPS_WEBHOOK": "https://hooks.example/secret"}))
    assert {check.level for check in checks} == {"ok"}
    assert not any(check.advice for check in checks)
    lines = [check.line() for check in checks]
    assert f"ok       {world.out}: can list, write, read, put-if-absent, remove" in lines
    assert f"ok       clock of {world.out}: as this machine's" in lines
    assert f"ok       {world.folder}/raw: can list, read" in lines
    assert any(line.startswith(f"ok       model {world.folder}/model: version ") for line in lines)
    assert "tiles of 32 pixels" in "".join(lines)
    assert "ok       route ops: OPS_WEBHOOK is set" in lines
    assert "secret" not in "".join(lines)
    assert not Path(world.out).exists()
    Path(world.out).mkdir()
    assert {check.level for check in check_folder(world.out)} == {"ok"}
    assert os.listdir(world.out) == []


def test_what_is_wrong_says_what_to_do(world: World) -> None:
    world.values["alerts"] = {"ops": {"webhook_env": "OPS_WEBHOOK"}}
    world.values["cameras"] = [{"images": "nowhere/{camera}/{date:%Y-%m-%d}/{name}.png", "model": "none"}]
    checks = {check.subject: check for check in doctor(world.fleet(), [NODE], {})}
    assert checks[f"{world.folder}/nowhere"].line() == (
        f"problem  {world.folder}/nowhere: no such folder or bucket; mend the template in fleet.yaml"
    )
    assert checks["model none"].level == "problem"
    assert "is not a complete model bundle" in checks["model none"].found
    assert checks["route ops"].line() == (
        "warning  route ops: OPS_WEBHOOK is not set in this environment; set it where `raysvq inspect` runs"
    )


def test_a_bucket_without_put_if_absent_or_rights_is_named(bucket: FakeS3) -> None:
    out = f"s3://{BUCKET}/fleet"
    assert {check.level for check in check_folder(out)} == {"ok"}
    bucket.ignores_if_none_match = True
    [problem] = [check for check in check_folder(out) if check.level != "ok"]
    assert "does not honour put-if-absent" in problem.found
    bucket.ignores_if_none_match = False
    bucket.forbidden = {"fleet"}
    [problem] = [check for check in check_folder(out) if check.level != "ok"]
    assert "permission denied (403 Forbidden AccessDenied)" in problem.found
    assert problem.advice == "grant list, on S3 s3:ListBucket"
    assert not bucket.objects


def test_a_store_that_does_not_answer_lacks_no_right(bucket: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    checks = list(check_folder(f"s3://{BUCKET}/fleet"))
    assert {(check.level, check.advice) for check in checks} == {
        ("problem", "see that the store answers: network, endpoint, credentials")
    }


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checks = list(check_folder(str(tmp_path / "file/fleet")))
    assert [check.level for check in checks if "grant write" in check.advice] == ["problem"]


@pytest.mark.parametrize(
    ("ahead", "level", "found"),
    [
        (0, "ok", "as this machine's$"),
        (60, "warning", r"\d\d s behind this machine's$"),
        (-3600, "problem", r"3,(599|600) s ahead of this machine's$"),
    ],
)
def test_the_clock_is_held_against_the_store_s(
    tmp_path: Path, bucket: FakeS3, ahead: float, level: str, found: str
) -> None:
    for out in (str(tmp_path), f"s3://{BUCKET}/fleet"):
        [clock] = [
            check
            for check in check_folder(out, lambda: time.time() + ahead)
            if check.subject.startswith("clock of ")
        ]
        assert clock.level == level
        assert re.match(found, clock.found)
        assert bool(clock.advice) == (level != "ok")


def test_machines_are_held_against_the_first() -> None:
    versions = (("Python", "3.11.9"), ("raysvq", "0"), ("ray", None))
    other = replace(NODE, name="worker", versions=versions, gpus=("H100", "H100"))
    late = replace(NODE, name="late", clock=4000.0, asked=(10.0, 12.0))
    full = replace(NODE, name="full", free_bytes=GIB // 2)
    tight = replace(NODE, name="tight", free_bytes=5 * GIB)
    checks = list(check_nodes([NODE, other, late, full, tight, Unreachable("gone", "no answer")]))
    lines = [check.line() for check in checks if check.level != "ok"]
    assert lines == [
        "problem  machine worker: has raysvq 0, ray missing, and machine head raysvq 1, ray 2.60; install the"
        " same everywhere, such as from one image",
        "problem  clock of machine late: 3,988 s ahead of this machine's; set both by NTP: nights, freshness"
        " and quiet hours go by the clock",
        "problem  machine full: 0.5 GiB free in /tmp; make room for 10 GiB, or set TMPDIR",
        "warning  machine tight: 5.0 GiB free in /tmp; make room for 10 GiB, or set TMPDIR",
        "problem  machine gone: no answer; raysvq must be installed there, and the machine answer",
    ]
    assert any("2 GPUs (H100)" in check.found for check in checks)
    assert _levels(checks)["machine head"] == "ok"


def test_this_machine_knows_itself() -> None:
    node = this_node()
    versions = dict(node.versions)
    assert all(versions[name] for name in ("Python", "raysvq", "ray", "torch", "pyarrow"))
    assert node.free_bytes > 0
    assert abs(node.clock - time.time()) < 60


def test_the_verb_prints_a_line_for_each_check_and_its_exit_code_says_whether_all_is_well(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    world.fleet()
    codes = []
    for arguments in (["--fleet", f"{world.folder}/fleet.yaml"], [str(tmp_path / "results")], []):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *arguments])
        codes.append(ended.value.code)
    printed = capsys.readouterr()
    assert codes == [0, 0, 2]
    assert f"ok       {world.out}: can list, write, read, put-if-absent, remove\n" in printed.out
    assert f"ok       {tmp_path}/results: can list," in printed.out
    assert "expected --fleet fleet.yaml, or folders" in printed.err
    (world.folder / "model/bundle.json").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--fleet", f"{world.folder}/fleet.yaml"])
    assert ended.value.code == 1

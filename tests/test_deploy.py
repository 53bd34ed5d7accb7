"""cluster.yaml, image, RayJob and the commands in docs/: well-formed, and true to the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from raysvq.cli import app
from raysvq.settings import load_settings, load_sweep

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
LINE = "python jobs/inspect_fleet.py --fleet s3://my-bucket/fleet.yaml"  # what every schedule calls

# `raysvq VERB …` or `python …/jobs/VERB.py …`, up to what ends a command in a shell.
_COMMAND = re.compile(r"(?:python \S*?jobs/(\w+)\.py|(?<![\w/.-])raysvq (?=[a-z]+ )(\w+))([^&;|#`\"'\n]*)")


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """(verb, arguments) of every raysvq command in a text."""
    found = _COMMAND.finditer(text)
    return [
        ((match[1] or match[2]).removesuffix("_fleet"), shlex.split(match[3]))
        for match in found
        if match[3].strip()
    ]


def written_commands() -> list[Any]:
    """Every command of deploy/ and of the code blocks in docs/."""
    texts = {"deploy": LINE}  # tests/test_schedules.py holds that each file there calls it
    for page in sorted((ROOT / "docs").glob("*.md")):
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M)
        texts[page.name] = "\n".join(text for language, text in blocks if not language)
    return [
        pytest.param(verb, arguments, id=f"{name}-{place}-{verb}")
        for name, text in texts.items()
        for place, (verb, arguments) in enumerate(commands_in(text))
    ]


def rayjob() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.mark.parametrize(("verb", "arguments"), written_commands())
def test_commands_parse_as_the_command_line_does(verb: str, arguments: list[str]) -> None:
    command = typer.main.get_command(app).commands[verb]
    values = command.make_context(verb, arguments).params
    load = load_sweep if verb == "tune" else load_settings
    load(values.get("config"), values.get("overrides") or ())


def test_cluster_passes_rays_own_validation(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_cluster_head_runs_no_tasks_and_gpus_scale_from_none(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert types["gpu"]["min_workers"] == 0 < types["gpu"]["max_workers"]
    assert types["cpu"]["min_workers"] == 0 < types["cpu"]["max_workers"]
    assert sum(kind.get("max_workers", 0) for kind in types.values()) <= cluster["max_workers"]


def test_cluster_takes_roles_and_a_token_but_holds_no_secret(cluster: dict[str, Any]) -> None:
    for kind in cluster["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"]["Name"]
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert "/home/ray/.ray/auth_token" in cluster["file_mounts"]
    text = (ROOT / "cluster.yaml").read_text() + "".join(
        path.read_text() for path in DEPLOY.rglob("*") if path.is_file()
    )
    assert not re.search(r"AKIA|SECRET|PRIVATE KEY|RAY_AUTH_TOKEN\b", text)


def test_cluster_installs_the_checkout_it_syncs(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"]["/home/ray/raysvq"] == "."
    assert {"**/.git", "**/.venv", "**/runs"} <= set(cluster["rsync_exclude"])
    install = next(command for command in cluster["setup_commands"] if "pip install" in command)
    assert install.startswith("cd ~/raysvq && ")
    assert "-e '.[jobs,openvino]' -c constraints.txt" in install
    assert (ROOT / "constraints.txt").exists()


def test_rayjob_takes_its_cluster_down_and_sizes_it_firmly() -> None:
    document = rayjob()
    spec = document["spec"]
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    assert spec["shutdownAfterJobFinishes"] is True
    assert set(yaml.safe_load(spec["runtimeEnvYAML"])) == {"env_vars"}
    rays = spec["rayClusterSpec"]
    assert rays["authOptions"] == {"mode": "token"}
    assert rays["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    for group in rays["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(limits["cpu"]) >= 4 * int(limits["nvidia.com/gpu"])


def test_rayjob_runs_the_image_that_the_dockerfile_makes() -> None:
    made = (DEPLOY / "Dockerfile").read_text()
    spec = rayjob()["spec"]
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert all(f"-t {image} ." in made for image in images)
    assert f"FROM rayproject/ray:{spec['rayClusterSpec']['rayVersion']}-" in made
    assert "WORKDIR /opt/raysvq\n" in made
    copied = re.findall(r"^COPY --chown=ray (.+) \S+$", made, re.M)
    assert all((ROOT / name).exists() for line in copied for name in line.split())

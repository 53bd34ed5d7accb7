"""deploy/: each scheduler calls the same line, and its file is what that scheduler reads."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterator
from configparser import ConfigParser
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.test_deploy import DEPLOY, LINE, ROOT, rayjob

KUBERAY = Path(os.environ.get("RAYSVQ_SCHEMAS", ROOT.parent / "shared" / "schemas")) / "kuberay"
HOUR, MINUTE = 2, 15


def documents(name: str) -> dict[str, dict[str, Any]]:
    """Of a file of manifests, by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / name).read_text())}


def crontab_lines() -> list[str]:
    lines = (DEPLOY / "crontab").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd minds the case
    parser.read_string((DEPLOY / name).read_text())
    return parser


def dag_calls() -> dict[str, dict[str, Any]]:
    """Arguments of the calls in the Airflow file, by function, as far as they are constants."""
    tree = ast.parse((DEPLOY / "airflow_dag.py").read_text())
    constants = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls: dict[str, dict[str, Any]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            calls[node.func.id] = {
                each.arg: _value(each.value, constants) for each in node.keywords if each.arg
            }
    return calls


def _value(node: ast.expr, constants: dict[str, Any]) -> Any:
    if isinstance(node, ast.JoinedStr):
        return "".join(_value(part, constants) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _value(node.value, constants)
    if isinstance(node, ast.Name):
        return constants[node.id]
    return None if isinstance(node, ast.Call) else ast.literal_eval(node)


def commands() -> dict[str, str]:
    """What each scheduler runs."""
    return {
        "rayjob.yaml": rayjob()["spec"]["entrypoint"],
        "raycronjob.yaml": documents("raycronjob.yaml")["RayCronJob"]["spec"]["jobTemplate"]["entrypoint"],
        "crontab": crontab_lines()[-1],
        "airflow_dag.py": dag_calls()["BashOperator"]["bash_command"],
        "raysvq-inspect.service": unit("raysvq-inspect.service")["Service"]["ExecStart"],
    }


@pytest.mark.parametrize("name", commands())
def test_every_schedule_calls_the_same_line(name: str) -> None:
    command = commands()[name]
    assert command.endswith(f" {LINE}")
    assert command.count("jobs/") == 1
    assert shlex.split(command)[-4:] == shlex.split(LINE)
    assert (ROOT / shlex.split(LINE)[1]).exists()


@pytest.mark.parametrize("name", ["crontab", "airflow_dag.py"])
def test_a_cluster_that_stays_up_gets_the_line_as_a_job(name: str) -> None:
    submitted = commands()[name].removesuffix(LINE)
    submit = r"\.venv/bin/ray job submit --address \S+ --working-dir \. -- $"
    assert re.search(rf"cd /srv/raysvq && (RAY_AUTH_MODE=token )?{submit}", submitted)


def test_no_file_of_deploy_names_another_command() -> None:
    texts = {path.name: path.read_text() for path in DEPLOY.rglob("*") if path.is_file()}
    named = {name for name, text in texts.items() if re.search(r"jobs/\w+\.py", text)}
    assert named == set(commands())


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with unknown fields refused, as `kubectl --validate=strict` does."""
    closed = dict(schema)
    for keyword in ("properties", "items", "additionalProperties"):
        value = closed.get(keyword)
        if keyword == "properties" and isinstance(value, dict):
            closed[keyword] = {name: strict(each) for name, each in value.items()}
        elif isinstance(value, dict):
            closed[keyword] = strict(value)
    if "properties" in closed and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def validator(kind: str) -> jsonschema.Draft202012Validator:
    file = KUBERAY / f"ray.io_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip(
            f"no schema {file}; set RAYSVQ_SCHEMAS to the folder above `kuberay`, KubeRay's helm chart crds/"
        )
    served = yaml.safe_load(file.read_text())["spec"]["versions"]
    (schema,) = (each["schema"]["openAPIV3Schema"] for each in served if each["name"] == "v1")
    return jsonschema.Draft202012Validator(strict(schema))


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycronjob.yaml"])
def test_kuberay_knows_every_field(name: str) -> None:
    ((kind, document),) = documents(name).items()
    assert document["apiVersion"] == "ray.io/v1"
    assert [error.message for error in validator(kind).iter_errors(document)] == []


def dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a document whose keys are fields."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from dictionaries(each)


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycronjob.yaml"])
def test_a_field_that_kuberay_does_not_know_is_found_wherever_it_stands(name: str) -> None:
    ((kind, document),) = documents(name).items()
    check = validator(kind)
    free = ("labels", "metadata", "rayStartParams", "limits", "requests")  # their keys are the user's
    tried = 0
    for place, fields in enumerate(dictionaries(document)):
        if any(fields is each.get(key) for each in dictionaries(document) for key in free):
            continue
        broken = deepcopy(document)
        list(dictionaries(broken))[place]["nonsense"] = 1
        assert not check.is_valid(broken), fields
        tried += 1
    assert tried >= 15


def test_raycronjob_wraps_the_rayjob() -> None:
    cron = documents("raycronjob.yaml")["RayCronJob"]["spec"]
    assert cron["jobTemplate"] == rayjob()["spec"]
    assert (cron["schedule"], cron["timeZone"]) == (f"{MINUTE} {HOUR} * * *", "Etc/UTC")


def test_cronjob_creates_the_rayjob_it_may_create_and_never_two_at_a_time() -> None:
    kinds = documents("cronjob.yaml")
    assert set(kinds) == {"CronJob", "ServiceAccount", "Role", "RoleBinding"}
    spec = kinds["CronJob"]["spec"]
    assert (spec["schedule"], spec["timeZone"]) == (f"{MINUTE} {HOUR} * * *", "Etc/UTC")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] == 3600
    job = spec["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] < spec["startingDeadlineSeconds"]
    assert job["backoffLimit"] <= 3
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["command"] == ["kubectl", "create", "-f", "/rayjob/rayjob.yaml"]
    mounted = {each["name"]: each["configMap"]["name"] for each in pod["volumes"]}
    assert pod["containers"][0]["volumeMounts"] == [{"name": "rayjob", "mountPath": "/rayjob"}]
    made = re.search(
        r"kubectl create configmap (\S+) --from-file=deploy/rayjob\.yaml",
        (DEPLOY / "cronjob.yaml").read_text(),
    )
    assert made
    assert mounted == {"rayjob": made[1]}
    assert pod["serviceAccountName"] == kinds["ServiceAccount"]["metadata"]["name"]
    assert kinds["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": pod["serviceAccountName"]}]
    assert kinds["RoleBinding"]["roleRef"]["name"] == kinds["Role"]["metadata"]["name"]
    assert kinds["Role"]["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}
    ]


def test_the_urls_of_alert_routes_come_from_a_secret_to_the_head_alone() -> None:
    rays = rayjob()["spec"]["rayClusterSpec"]
    (head,) = rays["headGroupSpec"]["template"]["spec"]["containers"]
    assert [each["valueFrom"]["secretKeyRef"]["name"] for each in head["env"]] == ["raysvq-alerts"]
    for group in rays["workerGroupSpecs"]:
        assert all("env" not in each for each in group["template"]["spec"]["containers"])
    assert set(yaml.safe_load(rayjob()["spec"]["runtimeEnvYAML"])["env_vars"]).isdisjoint(
        each["name"] for each in head["env"]
    )


def test_crontab_has_one_line_and_escapes_percent_signs() -> None:
    mail, line = crontab_lines()
    assert mail.startswith("MAILTO=")
    assert line.startswith(f"{MINUTE} {HOUR} * * *  cd ")
    assert not re.search(r"(?<!\\)%", line)


def test_airflow_runs_one_at_a_time_and_leaves_catching_up_to_the_fleet() -> None:
    calls = dag_calls()
    dag = calls["DAG"]
    assert dag["schedule"] == f"{MINUTE} {HOUR} * * *"
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    task = calls["BashOperator"]
    assert task["env"] == {"RAY_AUTH_MODE": "token"}
    assert task["append_env"] is True
    assert task["retries"] <= 2
    assert {"execution_timeout", "retry_delay"} <= task.keys()
    imported = {
        node.module
        for node in ast.walk(ast.parse((DEPLOY / "airflow_dag.py").read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert imported == {"airflow.sdk", "airflow.providers.standard.operators.bash", "datetime"}, (
        "no Ray provider"
    )


def test_systemd_runs_it_once_a_night_and_after_a_night_it_slept_through() -> None:
    service, timer = unit("raysvq-inspect.service"), unit("raysvq-inspect.timer")
    assert service["Service"]["Type"] == "oneshot"
    assert service["Service"]["WorkingDirectory"] == "/srv/raysvq"
    assert service["Service"]["Environment"].startswith("PATH=/srv/raysvq/.venv/bin:")
    assert timer["Timer"]["OnCalendar"] == f"*-*-* {HOUR:02}:{MINUTE:02}"
    assert timer["Timer"]["Persistent"] == "true"

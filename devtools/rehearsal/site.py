"""The plant of the rehearsal: an S3 server with rights that can be revoked, a Ray cluster, commands."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
import obstore
from obstore.store import S3Store
from ray.cluster_utils import Cluster

from devtools.rehearsal.script import PRODUCTS, Camera
from devtools.s3_server import BUCKET, REGION, S3Server, s3_server
from raysvq import storage

WAIT_S = 600  # for a run of the fleet
OUT = f"s3://{BUCKET}/fleet"
MODELS = f"s3://{BUCKET}/models"
TEMPLATE = f"s3://{BUCKET}/raw/{{product}}/{{line}}/{{camera}}/{{date:%Y-%m-%d}}/{{name}}.jpg"
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 128 * 2**20}
# A node that is lost counts as dead after two seconds, not a quarter of a minute.
_WATCHFUL = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
_UPLOADS_AT_ONCE = 8
_ARN = f"arn:aws:s3:::{BUCKET}"


@dataclass
class Site:
    """Store, cluster and the file that describes the fleet."""

    folder: Path
    server: S3Server
    cluster: Cluster
    spare: object  # the node that may be lost
    fleet: Path = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = self.folder / "fleet.yaml"
        self.fleet.write_text(fleet_yaml(self.cluster.address))
        owner = self.server.environment
        endpoint, keys = (
            owner["AWS_ENDPOINT_URL"],
            (owner["AWS_ACCESS_KEY_ID"], owner["AWS_SECRET_ACCESS_KEY"]),
        )
        self._store = S3Store(
            BUCKET,
            endpoint=endpoint,
            region=REGION,
            access_key_id=keys[0],
            secret_access_key=keys[1],
            client_options={"allow_http": True},
        )
        self._policies = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
        )

    def upload(self, files: dict[str, bytes]) -> None:
        """Put files by their keys, as the owner of the bucket."""
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            list(pool.map(lambda key: obstore.put(self._store, key, files[key]), files))

    def revoke(self, camera: Camera) -> None:
        """Deny the inspector a camera's images: to list them, and to read them."""
        denied = {"Effect": "Deny", "Principal": "*"}
        listing = {"Action": "s3:ListBucket", "Resource": _ARN}
        below = {"Condition": {"StringLike": {"s3:prefix": f"{camera.prefix}/*"}}}
        reading = {"Action": "s3:GetObject", "Resource": f"{_ARN}/{camera.prefix}/*"}
        policy = {"Version": "2012-10-17", "Statement": [denied | listing | below, denied | reading]}
        self._policies.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))

    def restore(self) -> None:
        """Take back what `revoke` denied."""
        self._policies.delete_bucket_policy(Bucket=BUCKET)

    def lose_node(self) -> None:
        """SIGKILL of all processes of a node."""
        self.cluster.remove_node(self.spare, allow_graceful=False)

    def replace_node(self) -> None:
        """Another one takes its place."""
        self.spare = self.cluster.add_node(**NODE)

    def start(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        """A command of raysvq in a process of its own."""
        command = [sys.executable, "-c", "from raysvq.cli import main; main()", verb, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def inspect(self, *arguments: str) -> subprocess.Popen[str]:
        """A run over the fleet, or what else `raysvq inspect` does."""
        return self.start("inspect", "--fleet", str(self.fleet), *arguments)

    def run(self, verb: str, *arguments: str) -> str:
        """A command that must succeed; what it says."""
        process = self.start(verb, *arguments)
        said, _ = process.communicate(timeout=WAIT_S)
        if process.returncode:
            raise RuntimeError(f"raysvq {verb} ended with {process.returncode}:\n{said[-3000:]}")
        return said


@contextmanager
def site(folder: Path, nodes: int) -> Iterator[Site]:
    """A store and a cluster of so many nodes; the environment gets the inspector's keys of the store.

    RAY_AUTH_TOKEN must stand in the environment before Ray is imported.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(s3_server(folder / "s3"))
        os.environ |= server.guest
        storage.forget_clients()
        head = {**NODE, "include_dashboard": False, "_system_config": _WATCHFUL}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        stack.callback(cluster.shutdown)
        joined = [cluster.add_node(**NODE) for _ in range(nodes - 1)]
        yield Site(folder, server, cluster, joined[-1])


def fleet_yaml(address: str) -> str:
    """The fleet of the rehearsal: one entry for all cameras, a model for each product."""
    first, second = PRODUCTS
    return f"""\
fleet: rehearsal
out: {OUT}
timezone: UTC
lateness_days: 3
defaults:
  model: {MODELS}/{first}@champion
  expect: {{at_least: 3}}
  alerts: [operators]
cameras:
  - images: "{TEMPLATE}"
overrides:
  - match: {{product: {second}}}
    model: {MODELS}/{second}@champion
alerts:
  operators: {{webhook_env: REHEARSAL_WEBHOOK, level: warning}}
watch: {{min_images: 10}}
settings:
  ray: {{address: "{address}"}}
"""

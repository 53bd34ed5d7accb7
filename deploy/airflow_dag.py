"""Airflow 3: inspects the fleet on a running cluster, every night. Copy it into the DAGs folder.

It needs no Ray provider: on Airflow's worker a checkout with its virtual environment in /srv/raysvq, and the
cluster's token in ~/.ray/auth_token.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

LINE = "python jobs/inspect_fleet.py --fleet s3://my-bucket/fleet.yaml"
SUBMIT = ".venv/bin/ray job submit --address http://127.0.0.1:8265 --working-dir . --"

with DAG(
    dag_id="raysvq_inspect",
    schedule="15 2 * * *",  # UTC
    start_date=datetime(2026, 1, 1),
    catchup=False,  # a run catches up by itself
    max_active_runs=1,
):
    BashOperator(
        task_id="inspect",
        bash_command=f"cd /srv/raysvq && {SUBMIT} {LINE}",
        env={"RAY_AUTH_MODE": "token"},
        append_env=True,
        retries=1,  # what failed is tried again; what is scored is not
        retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(hours=6),
    )

"""Credentials given as settings: they open the store everywhere, and stay nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from raysvq import cli
from raysvq.data.index import build_index
from raysvq.errors import SettingsError
from raysvq.evaluate_model import evaluate_model
from raysvq.results import read_scores
from raysvq.runtime.cluster import connect
from raysvq.sample import write_sample
from raysvq.scoring.job import score
from raysvq.settings import Settings, digest, load_settings
from raysvq.storage import configure, join, list_objects, put_file, read_bytes
from raysvq.training.ray_trainer import train
from raysvq.tuning.sweep import sweep
from tests.sweeps import ends_before_its_leaderboard

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SMALL = [
    "split.outliers=6",
    "tiles.anomalous_fraction=0.01",
    "model.hidden=8",
    "model.codebook_size=16",
    "model.embedding_dim=4",
    "training.steps=6",
    "training.batch_size=8",
    "training.validate_every=3",
    "scoring.batch_images=16",
    "scoring.worst=1",
    "tuning.trials=2",
    "evaluation.bootstrap=0",
    "ray.cpus=2",
    "ray.object_store_mib=256",
]


@pytest.fixture
def settings(
    s3: str, monkeypatch: pytest.MonkeyPatch, new_clients: Callable[[], None]
) -> Iterator[tuple[Settings, list[str]]]:
    """Settings that alone open the store, on a fresh cluster without a word of it in its environment."""
    secrets = [os.environ[name] for name in KEYS]
    found = load_settings(
        None,
        [
            *SMALL,
            f"storage.access_key_id={secrets[0]}",
            f"storage.secret_access_key={secrets[1]}",
            f"storage.endpoint_url={os.environ['AWS_ENDPOINT_URL']}",
            f"storage.region={os.environ['AWS_REGION']}",
        ],
    )
    for name in (*KEYS, "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of other credentials")
    new_clients()
    ray.shutdown()
    connect(found.ray)
    yield found, secrets
    ray.shutdown()


def test_a_run_on_credentials_from_settings_leaves_none_of_them(
    settings: tuple[Settings, list[str]], s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, secrets = settings
    configure(given.storage)
    place = join(s3, "secrets")
    listing = Path(write_sample(tmp_path / "sample", normal=24, anomalous=12))
    for file in filter(Path.is_file, listing.parent.rglob("*")):
        put_file(file, join(place, "sample", file.relative_to(listing.parent).as_posix()))
    manifest, model, scores = (join(place, name) for name in ("manifest.parquet", "model", "scores"))
    build_index(join(place, "sample", listing.name), manifest, given.split)
    train(manifest, model, given)
    summary = score(manifest, model, scores, given)
    evaluate_model(manifest, scores, model, join(place, "report"), given.evaluation)
    with monkeypatch.context() as patch:
        ends_before_its_leaderboard(patch)
        search = {"objective.eta": {"uniform": [0.5, 0.9]}}
        with pytest.raises(KeyboardInterrupt):
            sweep(manifest, join(place, "sweep"), given, search)
    assert (summary.scored, summary.rejects.total(), len(summary.heatmaps)) == (36, 2, 1)
    assert len(read_scores(scores)) == 36
    made = [info.uri for info in list_objects(place) if "/sample/" not in info.uri]
    for part in (
        "model/bundle.json",
        "scores/_commits/",
        "scores/scores/",
        "report/report.html",
        "sweep/_sweep/",
    ):
        assert any(f"{place}/{part}" in uri for uri in made)
    holding = [uri for uri in made for secret in secrets if secret.encode() in read_bytes(uri)]
    assert holding == []


SECRETS = [
    "storage.access_key_id=AKIDEXAMPLE",
    "storage.secret_access_key=%1234/abc: d",
    "storage.session_token=[1234]: t",
]


def test_secrets_are_part_of_no_digest_dump_or_text() -> None:
    given = load_settings(None, SECRETS)
    assert digest(given) == digest(Settings())
    assert given.storage.secret_access_key is not None
    assert given.storage.secret_access_key.get_secret_value() == "%1234/abc: d"
    assert given.storage.session_token is not None
    assert given.storage.session_token.get_secret_value() == "[1234]: t"
    for text in (given.model_dump_json(), repr(given), repr(given.model_dump()), str(given.storage)):
        assert "AKIDEXAMPLE" not in text
        assert "1234" not in text


def test_the_list_of_settings_masks_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["settings", *(part for secret in SECRETS for part in ("--set", secret))])
    said = capsys.readouterr().out
    assert "storage.access_key_id = **********" in said
    assert "storage.secret_access_key = **********" in said
    assert "storage.session_token = **********" in said
    assert "AKIDEXAMPLE" not in said
    assert "1234" not in said


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("storage: {secret_access_key: 12345678, access_key_id: a}", "storage.secret_access_key"),
        ("storage: {secret_access_key: s-12345678}", "go together"),
        ("storage: {session_token: s-12345678}", "go together|goes with access_key_id"),
        ("storage:\n  secret_access_key: @12345678\n", "not valid YAML"),
        ("storage: {endpoint_url: 'http://user:12345678@host'}", "storage.endpoint_url"),
    ],
)
def test_a_refused_secret_is_not_repeated(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=problem) as failure:
        load_settings(path)
    assert "12345678" not in str(failure.value)

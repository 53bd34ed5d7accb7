"""The models of the rehearsal: small, and trained in this process on drawn images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from devtools.rehearsal.bookkeeper import Bookkeeper
from devtools.rehearsal.pictures import write_tree
from devtools.rehearsal.script import PRODUCTS
from devtools.rehearsal.site import MODELS, Site
from raysvq.data.index import build_index
from raysvq.model.alias import promote
from raysvq.model.bundle import save_bundle, save_reference
from raysvq.settings import Settings, load_settings
from raysvq.training.export import export_bundle, write_training_ids
from raysvq.training.in_process import train_in_process
from raysvq.training.plan import learnt_splits, require_trainable
from raysvq.training.validation import reference_of, validate, validation_images
from raysvq.tuning.trial_data import prepare
from raysvq.tuning.trial_metrics import IMAGE_AUROC

NORMAL, ANOMALOUS = 240, 12  # images that a model learns from and is calibrated with
SETTINGS = ["split.validation_fraction=0.5", "split.outliers=6"]
SETTINGS += ["tiles.size=32", "tiles.anomalous_fraction=0.01", "decision.max_false_alarm_rate=0.02"]
SETTINGS += ["model.hidden=8", "model.residual_layers=1", "model.codebook_size=32", "model.embedding_dim=8"]
SETTINGS += ["training.steps=80", "training.validate_every=80", "training.batch_size=32"]


def make_models(site: Site, books: Bookkeeper) -> None:
    """Train, store and promote a model for each product."""
    for product in PRODUCTS:
        bundle = f"{MODELS}/{product}-1"
        books.promote(product, train_model(site.folder, product, 0, bundle), 1)
        promote(f"{MODELS}/{product}@champion", bundle)


def make_spare(site: Site) -> tuple[str, str]:
    """Train and store one more model for the first product; its folder and version."""
    bundle = f"{MODELS}/{PRODUCTS[0]}-2"
    return bundle, train_model(site.folder, PRODUCTS[0], 1, bundle)


def train_model(folder: Path, product: str, seed: int, out: str) -> str:
    """Train a model of a product and save its bundle as `out`; returns its version."""
    settings = load_settings(None, [*SETTINGS, f"training.seed={seed}"])
    source = folder / product
    manifest = str(folder / f"{product}.parquet")
    if not source.exists():
        write_tree(source, product, NORMAL, ANOMALOUS)
        build_index(str(source), manifest, settings.split)
    return _train(manifest, settings, out)


def _train(manifest: str, settings: Settings, out: str) -> str:
    learnt, _ = require_trainable(manifest, settings)
    data = prepare(manifest, settings, IMAGE_AUROC, lambda _: None, lambda part: part())
    images = validation_images(manifest, settings.training.validation_images)
    model, state = train_in_process(
        settings, data.tiles(), None, partial(validate, images=images), progress=None
    )
    bundle = export_bundle(model, settings, state, state.history, learnt)
    write_training_ids(manifest, settings, learnt_splits(learnt["folds"]), out)
    save_reference(reference_of(state.validation), out)
    save_bundle(bundle, out)
    return bundle.model_version

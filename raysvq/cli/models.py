"""Verbs that make models: from images to a bundle and its thresholds.

Stages are imported inside the commands: `--help` and usage errors need neither Ray nor PyTorch.
"""

from __future__ import annotations

from typing import Annotated

import typer

from raysvq import log
from raysvq.cli.app import Config, LogFormat, Manifest, Overrides, app, resolve


@app.command(short_help="List an image set and draw its splits: the manifest.")
def index(
    source: Annotated[str, typer.Argument(help="Image tree, folder or prefix, or CSV/Parquet listing.")],
    out: Annotated[str, typer.Option(help="Manifest to write.")] = "manifest.parquet",
    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty", help="Of a source without images, or a prefix not there, make an empty manifest."
        ),
    ] = False,
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """List an image set, draw its splits, write the manifest: one row per image.

    A folder with train/, validation/, test/ or ground_truth/ is read as an image tree (train/good,
    test/<defect>, ground_truth/<defect>/<stem>_mask.png); any other folder as images of unknown label,
    unless its folders are named like splits, labels or masks, which is refused. A listing needs a
    column `uri`; label, mask_uri, split, group, defect_type and captured_at are understood, every
    other column is kept as metadata. What is left out is counted and named.
    """
    from raysvq.data.index import build_index

    summary = build_index(source, out, resolve(config, overrides).split, allow_empty)
    counts = {"images": summary.images, "missing": summary.missing, "manifest": summary.manifest}
    log.info("\n".join(summary.lines()), "result", **counts)


@app.command(short_help="Train a model on a manifest: the bundle.")
def train(
    manifest: Manifest,
    out: Annotated[str, typer.Option(help="Folder of the model bundle to write.")] = "model",
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Train an ss-VQ-VAE on the manifest's training split, data-parallel over training.workers.

    Stopped and started again with the same arguments, it goes on from its last checkpoint.
    """
    from raysvq.training.ray_trainer import train as run

    bundle = run(manifest, out, resolve(config, overrides))
    auroc = bundle.reference.validation["auroc"]
    log.info(
        f"model {bundle.model_version} of step {bundle.training['best_step']},"
        f" validation AUROC {'- (no outliers)' if auroc is None else f'{auroc:.3f}'},"
        f" threshold {bundle.decisions.threshold:.4g} ({bundle.decisions.policy})\n"
        f"{bundle.decisions.promise.sentence}\n"
        f"trained in {bundle.training['seconds']:.0f} s, saved in {out} with a card, {out}/card.md",
        "result",
        model_version=bundle.model_version,
        validation_auroc=auroc,
        image_threshold=bundle.decisions.threshold,
        promise=bundle.decisions.promise.sentence,
        seconds=bundle.training["seconds"],
        model=out,
    )


@app.command(short_help="Search settings for a manifest: the best model.")
def tune(
    manifest: Manifest,
    out: Annotated[
        str, typer.Option(help="Folder for report.html, leaderboard.parquet, best.yaml and the best model.")
    ] = "sweep",
    config: Annotated[
        str, typer.Option("--config", help="YAML file with a section `search`, or the name of a shipped one.")
    ] = "tune-paper",
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Search settings with Ray Tune, as many trials at once as the cluster has CPUs, or GPUs.

    Trials are compared by tuning.metric on the validation split, never on the test split, over
    tuning.repeats draws; they share what is read, decoded and put through a frozen stem. The best
    settings are trained as OUT/model, and `OUT@champion` stands for it, for `raysvq score --model`.
    Stopped and started again with the same arguments, it goes on.

    In the YAML file, `base` names the configuration to start from, and `search` has what varies:
    `objective.eta: {uniform: [0.5, 0.95]}`; also log_uniform, int, log_int, choice, and `when`.
    """
    from raysvq.settings import load_sweep
    from raysvq.storage import configure
    from raysvq.tuning.sweep import sweep

    settings, search = load_sweep(config, overrides or ())
    configure(settings.storage)
    found = sweep(manifest, out, settings, search)
    log.info(
        f"trial {found.chosen.number} is taken, {found.board.metric} {found.chosen.value:.4f} on validation:"
        f" {out}/best.yaml; report in {out}/report.html\n"
        f"model {found.bundle.model_version} is {out}@champion",
        "result",
        model_version=found.bundle.model_version,
        trial=found.chosen.number,
        metric=found.board.metric,
        value=found.chosen.value,
    )


@app.command(short_help="Let a name stand for a model.")
def promote(
    model: Annotated[str, typer.Argument(help="Model bundle, or another alias.")],
    alias: Annotated[str, typer.Argument(help="FOLDER@NAME, such as s3://bucket/models@champion.")],
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Let an alias stand for a model bundle from now on, wherever --model is asked for.

    What runs on a schedule names the alias; promoting another model changes what the next run scores with.
    """
    from raysvq.model.alias import promote as run

    resolve(config, overrides)
    run(alias, model)
    log.info(f"{alias} is {model}", "result", alias=alias, model=model)


@app.command(short_help="Fit a model's thresholds anew, without training.")
def calibrate(
    model: Annotated[str, typer.Argument(help="Model bundle, or an alias such as models@champion.")],
    manifest: Manifest,
    scores: Annotated[
        str | None, typer.Option(help="Folder of scores of this model, in place of scoring now.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder for a copy of the bundle; the model stays as it is.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Fit a model's thresholds anew on images labelled normal, and anomalous where there are some.

    For last month's images that people passed as good, for another rate, or for thresholds of each
    camera: `--set decision.max_false_alarm_rate=0.02 --set decision.group_by=camera`. What is not
    set stays as in the last calibration, else as in the training.

    Images that the model has learnt from are left out, and the test split, which measures it: index
    with split.test_fraction=0 to calibrate on all. Without --scores they are scored into
    MODEL/_calibration. Weights and scores stay as they are; decisions.json and card.md are written.
    """
    from raysvq.calibrate_model import calibrate_model

    done = calibrate_model(model, manifest, resolve(config, overrides), scores, out)
    log.info(
        "\n".join(done.lines()),
        "result",
        model=done.model,
        image_threshold=done.after.threshold,
        threshold_before=done.before.threshold,
        promise=done.after.promise.sentence,
        groups={name: group.threshold for name, group in done.after.groups.items()},
        left_out=done.left_out,
    )

"""The command line: one verb per stage. `jobs/` calls the same verbs on a cluster."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import typer

from raysvq import log
from raysvq.cli_errors import explain
from raysvq.settings import Settings, describe, load_settings, shipped_configs

# Stages are imported inside the commands: `--help` and usage errors need neither Ray nor PyTorch.

INTERRUPTED = 130  # exit code, as of a process that signal 2 ended

_HELP = """Fleet-scale visual inspection: learn what normal looks like, score every image, as Ray batch jobs.

\b
From images to a report:
  raysvq index tree --out m.parquet                      of tree/train/good, tree/test/…
  raysvq train m.parquet --out model --config features   a model bundle
  raysvq score m.parquet --model model --out scores      one score per image
  raysvq evaluate m.parquet --model model --scores scores --out report
"""
_EPILOG = """A path may be local or an object store's, such as s3://bucket/prefix.

`raysvq VERB --help` has the options of a verb, `raysvq settings` every setting for --set KEY=VALUE and
--config FILE. `python -m raysvq VERB` is the same. The exit code is 0 where all went well, 2 where you
can mend it, 130 where it was interrupted, 1 otherwise.

A verb that was interrupted goes on when it is started again with the same arguments.
"""

app = typer.Typer(
    name="raysvq",
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Config = Annotated[
    str | None,
    typer.Option("--config", help="YAML or JSON file of settings, or the name of a shipped one."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override one setting, e.g. --set objective.eta=0.7.")
]
LogFormat = Annotated[
    log.Format,
    typer.Option(
        "--log",
        envvar=log.VARIABLE,
        help="What is printed: auto (a bar on a terminal, else lines), plain (lines), json (JSON lines).",
    ),
]
Manifest = Annotated[str, typer.Argument(help="Manifest made by `raysvq index`.")]


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

    summary = build_index(source, out, _settings(config, overrides).split, allow_empty)
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

    bundle = run(manifest, out, _settings(config, overrides))
    auroc = bundle.reference.validation["auroc"]
    log.info(
        f"model {bundle.model_version} of step {bundle.training['best_step']},"
        f" validation AUROC {'- (no outliers)' if auroc is None else f'{auroc:.3f}'},"
        f" threshold {bundle.decisions.threshold:.4g} ({bundle.decisions.policy})\n"
        f"{bundle.decisions.promise.sentence}\n"
        f"trained in {bundle.training['seconds']:.0f} s, saved in {out}",
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

    _settings(config, overrides)
    run(alias, model)
    log.info(f"{alias} is {model}", "result", alias=alias, model=model)


@app.command(short_help="Score every image of a manifest: Parquet rows.")
def score(
    manifest: Manifest,
    model: Annotated[str, typer.Option(help="Model bundle made by `raysvq train`, or an alias.")] = "model",
    out: Annotated[str, typer.Option(help="Folder for scores/, rejects/ and maps/.")] = "scores",
    plan: Annotated[bool, typer.Option("--plan", help="Print what it would take; score nothing.")] = False,
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Score every image of a manifest: one Parquet row per image, or a reject row with a reason.

    Images that are scored in --out already are left alone; those that have changed since (size, ETag
    or time) are scored again, and their new rows take the place of the old ones. Stopped and started
    again, it goes on where it was.

    It stops where more than scoring.max_rejected of the images cannot be had from the store.

    --plan prints images, bytes, tiles, files and the time to expect, measured on a few images.

    Tiles, encoder and threshold come with the model; of the settings, the sections `scoring`,
    `storage` and `ray` apply.
    """
    settings = _settings(config, overrides)
    if plan:
        from raysvq.scoring.forecast import forecast

        log.info("\n".join(forecast(manifest, model, out, settings).lines()), "result")
        return
    from raysvq.scoring.job import score as run

    summary = run(manifest, model, out, settings)
    log.info(
        "\n".join(summary.lines()),
        "result",
        run_id=summary.run_id,
        images=summary.images,
        done_before=summary.done_before,
        scored=summary.scored,
        anomalous=summary.anomalous,
        rejected=summary.rejects.total(),
        rejected_as=dict(summary.rejects),
        seconds=round(summary.seconds, 1),
        scores=summary.out,
    )


@app.command(short_help="Merge small result files, remove what was replaced.")
def compact(
    scores: Annotated[str, typer.Argument(help="Folder made by `raysvq score`.")],
    grace: Annotated[
        float, typer.Option(min=0, help="Hours that replaced files stay, for those who read them now.")
    ] = 24.0,
    plan: Annotated[bool, typer.Option("--plan", help="Print what it would do, and change nothing.")] = False,
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Merge the small files of each partition, and remove those that were replaced longer than --grace ago.

    Rows stay as they are, and readers see all of them at any time. For folders that many runs scored into:
    afterwards queries open few files, and runs start as fast as after the first one.
    """
    from raysvq.results import compact as compaction
    from raysvq.runtime.lease import lease
    from raysvq.storage import canonical

    _settings(config, overrides)
    out, hours = canonical(scores), timedelta(hours=grace)
    if plan:
        found = compaction.plan_compaction(out, hours)
    else:
        with lease(out, "compact") as require_held:
            found = compaction.compact(out, hours, require_held)
    log.info("\n".join(found.lines()), "result", version=found.version)


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
    set stays as the model was trained with.

    Images that the model has learnt from are left out, and the test split, which measures it: index
    with split.test_fraction=0 to calibrate on all. Without --scores they are scored into
    MODEL/_calibration. Weights and scores stay as they are; only decisions.json is written.
    """
    from raysvq.calibrate_model import calibrate_model

    done = calibrate_model(model, manifest, _settings(config, overrides), scores, out)
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


@app.command(short_help="Compare scores with labels and masks: the report.")
def evaluate(
    manifest: Manifest,
    scores: Annotated[str, typer.Option(help="Folder made by `raysvq score`.")] = "scores",
    model: Annotated[
        str, typer.Option(help="Model bundle the scores were made with, or an alias.")
    ] = "model",
    out: Annotated[
        str, typer.Option(help="Folder for report.html, evaluation.json and images.parquet.")
    ] = "report",
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Compare scores with labels and masks of the test split; write a report to open offline."""
    from raysvq.evaluate_model import evaluate_model, result_text

    settings = _settings(config, overrides).evaluation
    evaluation, report = evaluate_model(manifest, scores, model, out, settings)
    metrics = {name: getattr(value, "value", value) for name, value in vars(evaluation.overall).items()}
    log.info(f"{result_text(evaluation)}\nreport in {report}", "result", report=report, **metrics)


@app.command(short_help="Compare two models on the same images.")
def compare(
    report_a: Annotated[str, typer.Argument(help="Folder made by `raysvq evaluate`.")],
    report_b: Annotated[str, typer.Argument(help="Folder made by `raysvq evaluate` for another model.")],
    out: Annotated[str | None, typer.Option(help="JSON file to write.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Compare two models on the labelled test images that both have scored, by paired tests.

    Of the rankings: DeLong's test and a bootstrap by group of the difference in AUROC, and recall at equal
    rates of false alarms. Of the decisions: McNemar's exact test.
    """
    from raysvq.evaluation.compare import compare as run
    from raysvq.storage import canonical, write_bytes

    settings = _settings(config, overrides).evaluation
    comparison = run(canonical(report_a), canonical(report_b), settings)
    if out is not None:
        write_bytes(canonical(out), comparison.to_json().encode())
    log.info("\n".join(comparison.lines()), "result", verdict=comparison.verdict, out=out)


@app.command(short_help="Run index, train, score, evaluate on sample images or your own.")
def demo(
    data: Annotated[str | None, typer.Option(help="Your own image tree or listing.")] = None,
    out: Annotated[
        str, typer.Option(help="Folder for what the demo makes; what an earlier one made is removed.")
    ] = "runs/demo",
    config: Config = None,
    overrides: Overrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Run index, train, score and evaluate on generated sample images, or on your own.

    Without --data it draws 222 images of steel and painted panels, with pits, rust, scratches and
    dirt, and uses the shipped configuration `sample`; with --data, `features`, which takes each
    image as a whole.
    """
    from raysvq.demo import run_demo

    own = shipped_configs()["features" if data else "sample"]
    run_demo(data, out, _settings(config or own, overrides))


@app.command(short_help="List every setting, its value and what it does.")
def settings(
    config: Config = None, overrides: Overrides = None, log_format: LogFormat = log.Format.AUTO
) -> None:
    """List every setting: its value with --config and --set applied, and what it does."""
    resolved = load_settings(config, overrides or ())
    for key, default, text in describe():
        value = attrgetter(key)(resolved)
        changed = "" if value == default else f"  (default {default})"
        log.info(f"{key} = {value}{changed}\n    {text}", "setting", key=key, value=value, default=default)


def _settings(config: str | Path | None, overrides: list[str] | None) -> Settings:
    """Resolved, and those of the object stores applied."""
    from raysvq.storage import configure

    resolved = load_settings(config, overrides or ())
    configure(resolved.storage)
    return resolved


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error a user can mend is one sentence on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    log.use(_format(given), next((one for one in given[:1] if not one.startswith("-")), ""))
    try:
        code = app(args=given, prog_name="raysvq", standalone_mode=False) or 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        code = INTERRUPTED
        log.error("raysvq: interrupted", type="KeyboardInterrupt", exit_code=code)
    except Exception as error:
        failure = explain(error, given)
        if failure is not None:
            code = failure.exit_code
            log.error(**failure._asdict())
        elif log.is_json():
            code = 1
            text, kind = traceback.format_exc(), type(error).__name__
            log.error(text, message=str(error), type=kind, exit_code=code, traceback=text)
        else:
            raise
    finally:
        log.use(log.Format.PLAIN)
    sys.exit(code)


def _format(arguments: Sequence[str]) -> str:
    """Of lines, as the arguments or the environment want it: known before arguments that are refused."""
    wanted = os.environ.get(log.VARIABLE, "")
    for one, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if one == "--log" or one.startswith("--log="):
            wanted = one.removeprefix("--log").removeprefix("=") or following
    return wanted if wanted in list(log.Format) else log.Format.AUTO

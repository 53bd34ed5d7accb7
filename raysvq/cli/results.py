"""Verbs that make and look at results: scores, the report, the demo, the settings.

Stages are imported inside the commands: `--help` and usage errors need neither Ray nor PyTorch.
"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from operator import attrgetter
from typing import Annotated

import typer

from raysvq import log
from raysvq.cli.app import Config, LogFormat, Manifest, Overrides, app, resolve
from raysvq.errors import SettingsError
from raysvq.settings import describe, load_settings, shipped_configs


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
    settings = resolve(config, overrides)
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
    scores: Annotated[str | None, typer.Argument(help="Folder made by `raysvq score`.")] = None,
    fleet: Annotated[
        str | None, typer.Option("--fleet", help="fleet.yaml: its ledger and all its cameras, and retention.")
    ] = None,
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

    With --fleet this is done for each camera and the ledger, and results go that are past a camera's
    retention_days.
    """
    if (scores is None) == (fleet is None):
        raise SettingsError("compact takes a folder of scores, or --fleet FILE; expected one of them")
    if scores is None:
        _keep_house(str(fleet), timedelta(hours=grace), plan, overrides)
        return
    from raysvq.results import compact as compaction
    from raysvq.runtime.lease import lease
    from raysvq.storage import canonical

    resolve(config, overrides)
    out, hours = canonical(scores), timedelta(hours=grace)
    if plan:
        found = compaction.plan_compaction(out, hours)
    else:
        with lease(out, "compact") as require_held:
            found = compaction.compact(out, hours, require_held)
    log.info("\n".join(found.lines()), "result", version=found.version)


def _keep_house(file: str, grace: timedelta, plan: bool, overrides: list[str] | None) -> None:
    from raysvq.fleet.settings.file import load_fleet
    from raysvq.fleet.upkeep.housekeeping import keep_house
    from raysvq.runtime.lease import lease
    from raysvq.storage import configure

    fleet = load_fleet(file, overrides or ())
    configure(fleet.settings.storage)
    with nullcontext(lambda: None) if plan else lease(fleet.out, "compact") as require_held:
        found = keep_house(fleet, grace, require_held, plan)
    log.info("\n".join(found.lines()), "result")
    raise typer.Exit(int(bool(found.failures)))


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

    settings = resolve(config, overrides).evaluation
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

    settings = resolve(config, overrides).evaluation
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
    run_demo(data, out, resolve(config or own, overrides))


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

"""The verdict in words: what was tested, what came of it, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binomtest

from raysvq.evaluation.result import Evaluation, Metrics

_FEW = 20  # defective images, below which the share found is hardly known
_TYPES = 4  # types of defects named in a sentence
_AT_REST = "Nothing here asks for action. `raysvq promote MODEL FOLDER@champion` puts the model to work."
_WEAK = 0.7  # share found, below which a type of defect asks for labels


Tone = Literal["good", "bad", "open"]  # of the promise: kept, broken, or not judged


@dataclass(frozen=True)
class Verdict:
    """A headline, sentences, and steps to take."""

    headline: str
    tone: Tone
    badge: str
    sentences: tuple[str, ...]
    steps: tuple[str, ...]


def verdict(evaluation: Evaluation) -> Verdict:
    """Put an evaluation into words."""
    tone, badge = _promise(evaluation)
    return Verdict(
        headline=_headline(evaluation.overall),
        tone=tone,
        badge=badge,
        sentences=tuple(_sentences(evaluation)),
        steps=tuple(_steps(evaluation)) or (_AT_REST,),
    )


def _promise(evaluation: Evaluation) -> tuple[Tone, str]:
    outcome = evaluation.outcome
    if outcome is None:
        return "open", "No promise to judge"
    if not outcome.kept:
        return "bad", "Promise broken"
    if _above_promise(evaluation):
        return "open", "Promise not broken"  # chance allows it: so few images calibrated, or were tested
    return "good", "Promise kept"


def _headline(overall: Metrics) -> str:
    found = f"{overall.found:,} of {counted(overall.anomalous_images, 'defective image')} found"
    alarms = f"{counted(overall.false_alarms, 'false alarm')} among {overall.normal_images:,} good ones"
    if overall.anomalous_images and overall.normal_images:
        return f"{found}, {alarms}"
    if overall.anomalous_images:
        return f"{found}; no good image was tested"
    if overall.normal_images:
        return f"{alarms}; no defective image was tested"
    return "No labelled test image was scored, so there is nothing to measure"


def _sentences(evaluation: Evaluation) -> Iterator[str]:
    overall = evaluation.overall
    if not evaluation.images:
        return
    flags = (
        "each group of images has its own threshold"
        if evaluation.threshold is None
        else f"an image is flagged from a score of {evaluation.threshold:.4g} on"
    )
    yield (
        f"Tested on {counted(len(evaluation.images), 'labelled image')} that the model did not learn from;"
        f" {flags}."
    )
    if overall.anomalous_images:
        yield _found(overall) + _missed_types(evaluation)
    if evaluation.defects is not None and evaluation.defects.defects:
        defects = evaluation.defects
        yield f"Of {counted(defects.defects, 'marked defect')} in them, the map points at {defects.found:,}."
    if evaluation.outcome is not None:
        yield evaluation.outcome.sentence


def _found(overall: Metrics) -> str:
    share = binomtest(overall.found, overall.anomalous_images)
    interval = share.proportion_ci(0.95, method="wilson")
    return (
        f"It found {100 * share.statistic:.0f}\u00a0% of the defective images; of new ones of the same kinds,"
        f" expect {100 * interval.low:.0f} to {100 * interval.high:.0f}\u00a0%."
    )


def _missed_types(evaluation: Evaluation) -> str:
    missed = _by_missed(evaluation)
    if not missed:
        return ""
    named = [
        f"{name} ({_lost(metrics)} of {metrics.anomalous_images:,})" for name, metrics in missed[:_TYPES]
    ]
    more = f" and {len(missed) - _TYPES} more types" if len(missed) > _TYPES else ""
    return f" Missed: {', '.join(named)}{more}."


def _steps(evaluation: Evaluation) -> Iterator[str]:
    overall, outcome, counts = evaluation.overall, evaluation.outcome, evaluation.counts
    if not evaluation.images:
        yield "Score labelled test images with `raysvq score`, and evaluate again."
        return
    if outcome is not None and not outcome.kept:
        yield (
            "Look at the false alarms below. Where they are good parts, refit the threshold from images"
            " that people have passed: `raysvq calibrate MODEL MANIFEST`."
        )
    promise = evaluation.promise
    if outcome is not None and outcome.kept and _above_promise(evaluation):
        yield (
            "More good images are flagged than was promised in expectation, by no more than chance explains."
            " More good images settle it: `raysvq calibrate MODEL MANIFEST`."
        )
    weak = [
        name for name, metrics in _by_missed(evaluation) if metrics.found < _WEAK * metrics.anomalous_images
    ]
    if weak:
        yield (
            f"Look at the missed images below. Label other images with {_listed(weak[:_TYPES])} as outliers"
            " and train again: a type of defect that the model has seen is found more often."
        )
    elif overall.found < overall.anomalous_images:
        yield "Look at the missed images below: are they defects that must be found?"
    if promise is not None and promise.needed is not None and promise.promised != promise.asked:
        kind = "defective" if promise.policy == "min_recall" else "good"
        yield (
            f"Collect {kind} images: the threshold stands on too few for what was asked, which needs"
            f" {promise.needed:,}."
        )
    if overall.anomalous_images < _FEW:
        yield (
            f"Collect defective test images: {overall.anomalous_images} are too few to know the share that"
            " is found."
        )
    if counts.test_missing:
        yield f"Score {counted(counts.test_missing, 'labelled test image')} that no run has scored yet."
    if counts.test_rejected:
        repaired = counted(counts.test_rejected, "test image")
        yield f"Repair {repaired} that scoring rejected, for the reasons below."


def _above_promise(evaluation: Evaluation) -> bool:
    promise, overall = evaluation.promise, evaluation.overall
    if promise is None or promise.policy != "max_false_alarm_rate" or promise.promised is None:
        return False
    return overall.false_alarms > promise.promised * overall.normal_images


def _by_missed(evaluation: Evaluation) -> list[tuple[str, Metrics]]:
    """The types of defects with missed images, the largest share missed first."""
    missed = [item for item in evaluation.by_defect_type.items() if _lost(item[1])]
    return sorted(missed, key=lambda item: (-_lost(item[1]) / item[1].anomalous_images, item[0]))


def _lost(metrics: Metrics) -> int:
    return metrics.anomalous_images - metrics.found


def counted(number: int, name: str) -> str:
    """A number with its noun."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

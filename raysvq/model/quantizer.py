"""The codebook: nearest embeddings, EMA statistics, dead-code revival.

Shapes: B batch, d embedding_dim, h and w grid, P = B*h*w positions, K codebook_size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from raysvq.model.collective import sum_over_ranks, take_from_first

_EPSILON = 1e-5


@dataclass(frozen=True)
class Quantized:
    """What the codebook makes of a grid of encodings."""

    quantize: Tensor  # (B, d, h, w) nearest embeddings; gradients of a decoder pass straight through
    nearest: Tensor  # (B, d, h, w) nearest embeddings; gradients reach a gradient codebook
    indices: Tensor  # (B, h, w) int64
    distances: Tensor  # (B, h, w) ‖E_i − e_k(i)‖₂


class Quantizer(nn.Module):
    """Eq. 1: Q(U)_i = e_k, k = argmin_j ‖E(U)_i − e_j‖.

    With `ema` the codebook follows moving averages of the *normal* encodings assigned to each code
    (van den Oord et al. 2017, appendix A.1); outliers act through the encoder alone, since averages
    can only attract. With `gradient` it is a parameter, moved by the codebook loss.
    Always computes in float32. Statistics are summed over ranks, so every rank holds equal codes.
    """

    def __init__(self, size: int, dim: int, kind: str, decay: float, revive_below: float) -> None:
        super().__init__()
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

    def forward(self, encoded: Tensor) -> Quantized:
        """Quantise (B, d, h, w) encodings."""
        with torch.autocast(encoded.device.type, enabled=False):
            encoded = encoded.float()
            positions = encoded.movedim(1, -1)  # (B, h, w, d)
            indices = nearest_codes(positions.detach().flatten(0, 2), self.codebook.detach())
            nearest = nn.functional.embedding(indices, self.codebook).view_as(positions)
            distances = torch.linalg.vector_norm(positions - nearest.detach(), dim=-1)
            nearest = nearest.movedim(-1, 1)
            quantize = encoded + (nearest - encoded).detach()
            return Quantized(quantize, nearest, indices.view(distances.shape), distances)

    @torch.no_grad()
    def start_from(self, encoded: Tensor, seed: int) -> None:
        """Place the codes at the k-means centres of (P, d) normal encodings of rank 0."""
        size = self.codebook.shape[0]
        centres = MiniBatchKMeans(
            size, init="random", n_init=1, batch_size=4096, max_iter=20, random_state=seed
        ).fit(_at_least(encoded, size).cpu().numpy())
        start = torch.from_numpy(centres.cluster_centers_).to(self.codebook)
        self._place(torch.ones_like(self.counts, dtype=torch.bool), take_from_first(start))

    @torch.no_grad()
    def update(self, encoded: Tensor, indices: Tensor) -> Tensor:
        """Follow one step's normal encodings (P, d) with their codes (P,); revive dead codes.

        Returns:
            (K,) how often each code was used in this step, over all ranks.
        """
        used = sum_over_ranks(torch.bincount(indices, minlength=self.codebook.shape[0]).float())
        self.updates += 1
        # Young averages follow a young encoder closely: 2/11, 3/12, … up to the decay set.
        decay = min(self.decay, (1 + int(self.updates)) / (10 + int(self.updates)))
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

    def _place(self, which: Tensor, codes: Tensor) -> None:
        """Set the codes marked in `which` (K,) as if each had just been used enough to live."""
        self.codebook.data[which] = codes
        self.counts[which] = self.counts.mean()
        self.sums[which] = codes * self.counts[which][:, None]


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

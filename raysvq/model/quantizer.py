"""The codebook: nearest embeddings, EMA statistics, dead-code revival.

Names as in lucidrains' vector-quantize-pytorch.
Shapes: B batch, d size of an embedding, h and w grid, P = B*h*w positions, K codebook_size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysvq.model.collective import sum_over_ranks, take_from_first

_EPSILON = 1e-5


@dataclass(frozen=True)
class Quantized:
    """Nearest codes of a grid of encodings, and the distances to them."""

    quantize: Tensor  # (B, d, h, w) input of a decoder; gradients pass straight through to E(U)
    nearest: Tensor  # (B, d, h, w) the nearest embeddings; gradients reach a learnable codebook
    indices: Tensor  # (B, h, w) int64
    squares: Tensor  # (B, h, w) ‖E_i − e_k(i)‖₂²; no gradient
    terms: Tensor  # (B, R, h, w) of the distance for scores: the root of squares, or a weighted sum of roots

    @property
    def distances(self) -> Tensor:
        """(B, h, w) for scores."""
        return self.terms.sum(1)


class Quantizer(nn.Module):
    """Nearest embeddings of a codebook that follows the encodings of normal images.

    The codebook follows moving averages of the *normal* encodings assigned to each code (van den Oord et
    al. 2017, appendix A.1). Outliers act through the encoder alone, since averages can only attract.
    A learnable codebook is a parameter instead, moved by the codebook loss.
    Always computes in float32. Statistics are summed over ranks, so every rank holds equal codes.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        decay: float = 0.99,
        threshold_dead_code: float = 0.0,
        learnable_codebook: bool = False,
    ) -> None:
        """Draw random codes.

        Args:
            decay: share of the past that moving averages keep in a step.
            threshold_dead_code: a code whose moving count is below this share of the mean count is
                replaced; 0 replaces none.
        """
        super().__init__()
        self.decay = decay
        self.threshold_dead_code = threshold_dead_code
        self.learnable_codebook = learnable_codebook
        codes = torch.randn(codebook_size, dim) / dim**0.5
        if learnable_codebook:
            self.codebook = nn.Parameter(codes)
        else:
            self.register_buffer("codebook", codes)
        self.cluster_size: Tensor  # moving count of each code's encodings
        self.embed_avg: Tensor  # moving sum of them
        self.updates: Tensor
        self.register_buffer("cluster_size", torch.ones(codebook_size))
        self.register_buffer("embed_avg", codes.clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, encoded: Tensor) -> Quantized:
        """Quantise (B, d, h, w) encodings."""
        with torch.autocast(encoded.device.type, enabled=False):
            encoded = encoded.float()
            indices = self.nearest_indices(encoded)
            nearest = self.lookup(indices)
            squares = square_norms((encoded.detach() - nearest.detach()).movedim(1, -1))
            quantize = encoded + (nearest - encoded).detach()
            return Quantized(quantize, nearest, indices, squares, squares.sqrt()[:, None])

    def nearest_indices(self, encoded: Tensor) -> Tensor:
        """Codes nearest to (B, d, h, w) encodings, or, with fewer channels, nearest in the leading ones.

        Returns:
            (B, h, w) int64.
        """
        with torch.autocast(encoded.device.type, enabled=False):
            positions = encoded.detach().float().movedim(1, -1)
            codebook = self.codebook.detach()[:, : positions.shape[-1]]
            return nearest_indices(positions.flatten(0, 2), codebook).view(positions.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """(B, h, w) -> (B, d, h, w) the codes themselves."""
        return nn.functional.embedding(indices, self.codebook).movedim(-1, 1)

    @property
    def current_decay(self) -> Tensor:
        """Decay of the coming update: 2/11, 3/12, … up to the decay set. (), float64.

        Young averages follow a young encoder closely.
        """
        coming = self.updates.double() + 1
        return ((1 + coming) / (10 + coming)).clamp(max=self.decay)

    @torch.no_grad()
    def initialize(self, encoded: Tensor, seed: int) -> None:
        """Place the codes at the k-means centres of normal encodings of rank 0.

        Args:
            encoded: (P, d), or fewer columns; the dimensions that are missing start at 0.
        """
        # Imported here, as scoring does not need it.
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
        codes = torch.zeros_like(self.codebook)
        codes[:, : encoded.shape[1]] = torch.from_numpy(centres.cluster_centers_)
        self._place(torch.ones_like(self.cluster_size, dtype=torch.bool), take_from_first(codes))

    @torch.no_grad()
    def update(self, encoded: Tensor, indices: Tensor) -> Tensor:
        """Update with one step's normal encodings (P, d) and their codes (P,); replace dead codes.

        Nothing here reads a value back from the device, so a GPU's host need not wait for it.

        Returns:
            (K,) how often each code was used in this step, over all ranks.
        """
        encoded = encoded.detach().float()
        ones = torch.ones_like(indices, dtype=torch.float32)
        # Not `bincount`, which reads the largest index back.
        used = sum_over_ranks(torch.zeros_like(self.cluster_size).index_add_(0, indices, ones))
        new = (1 - self.current_decay).float()
        self.updates += 1
        self.cluster_size.lerp_(used, new)
        if not self.learnable_codebook:
            sums = torch.zeros_like(self.embed_avg).index_add_(0, indices, encoded)
            self.embed_avg.lerp_(sum_over_ranks(sums), new)
            total = self.cluster_size.sum()
            smoothed = (self.cluster_size + _EPSILON) / (total + len(used) * _EPSILON) * total
            self.codebook.copy_(self.embed_avg / smoothed[:, None])
        if self.threshold_dead_code:
            # A candidate for every code: how many are dead only the device knows.
            drawn = torch.randint(len(encoded), (len(used),), device=encoded.device)
            dead = self.cluster_size < self.threshold_dead_code * self.cluster_size.mean()
            self._place(dead, take_from_first(encoded[drawn]))
        return used

    def _place(self, which: Tensor, codes: Tensor) -> None:
        """Move the codes marked in `which` (K,) to those of (K, d), with the mean count: not dead at once."""
        count = self.cluster_size.mean()
        self.codebook.copy_(torch.where(which[:, None], codes, self.codebook))
        self.embed_avg.copy_(torch.where(which[:, None], codes * count, self.embed_avg))
        self.cluster_size.copy_(torch.where(which, count, self.cluster_size))


def square_norms(vectors: Tensor) -> Tensor:
    """‖v‖₂² over the last dimension."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return norms.square()


def nearest_indices(positions: Tensor, codebook: Tensor, chunk: int = 65536) -> Tensor:
    """Index of the nearest of (K, d) codes for each of (P, d) positions. (P,)"""
    # Around the codebook's mean, since far from the origin ‖e‖² would swallow the differences.
    centre = codebook.mean(dim=0)
    codebook = codebook - centre
    offset = 0.5 * codebook.square().sum(dim=1)
    # Eq. 1: Q(U)_i = e_k, k = argmin_j ‖E(U)_i − e_j‖
    parts = [
        torch.addmm(offset, part - centre, codebook.T, alpha=-1).argmin(1)
        for part in torch.split(positions, chunk)
    ]
    return torch.cat(parts)


def perplexity(used: Tensor) -> float:
    """Perplexity of code use (K,): exp of its entropy, the effective number of codes."""
    share = used / used.sum().clamp(min=1)
    return float(torch.exp(-(share * (share + 1e-10).log()).sum()))


def _at_least(encoded: Tensor, size: int) -> Tensor:
    """Repeat positions, with small noise, until there are as many as codes."""
    if len(encoded) >= size:
        return encoded
    repeated = encoded.repeat(-(-size // len(encoded)), 1)
    return repeated + 1e-3 * encoded.std() * torch.randn_like(repeated)

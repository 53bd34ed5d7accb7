"""High-dimensional vectors as points of a plane, for people to look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_FEWEST = 12  # vectors; of fewer t-SNE draws no neighbourhoods
_PERPLEXITY = 30.0  # effective number of neighbours of each point
_COMPONENTS = 30  # principal components that t-SNE takes
_ITERATIONS = 500


def project(vectors: Floats) -> tuple[Floats, str]:
    """Lay vectors out in a plane, neighbours near each other: t-SNE of their principal components.

    The same vectors give the same points, on the same machine. Distances between groups of points mean
    nothing under t-SNE. (van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 2008.)

    Args:
        vectors: (N, d), finite.

    Returns:
        (N, 2), and how they were found: `t-SNE`, or `PCA` where there are too few different vectors.
    """
    # Imported here, as neither training nor scoring needs it.
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    components = _principal(vectors)
    if len(np.unique(components, axis=0)) < _FEWEST:
        return components[:, :2], "PCA"
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    embed = TSNE(perplexity=perplexity, max_iter=_ITERATIONS, init="pca", random_state=0, n_jobs=1)
    with threadpool_limits(1):  # on a machine that others use too, its threads wait for each other
        return np.asarray(embed.fit_transform(components), np.float32), "t-SNE"


def _principal(vectors: Floats) -> Floats:
    """(N, d) -> (N, 2 to _COMPONENTS) principal components, zeros where there are fewer."""
    found = min(*vectors.shape, _COMPONENTS)
    components = np.zeros((len(vectors), max(found, 2)), np.float32)
    if found:
        centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
        left, scales, _ = np.linalg.svd(centred, full_matrices=False)
        components[:, :found] = (left * scales)[:, :found]
    return components

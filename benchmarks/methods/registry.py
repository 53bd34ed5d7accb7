"""Every method by its name: what it learns with, and on which settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.methods.autoencoder import fit_autoencoder
from benchmarks.methods.deep_sad import fit_deep_sad
from benchmarks.methods.dictionaries import fit_kmeans, fit_memory_bank
from benchmarks.methods.protocol import Scorer
from benchmarks.methods.ss_vq_vae import fit_ss_vq_vae
from raysvq.settings import Settings, load_settings

OBJECTS = {"mvtec_bottle"}  # sets whose objects fill the image; the others are surfaces


@dataclass(frozen=True)
class Method:
    """A way from a manifest to a scorer."""

    title: str
    fit: Callable[[str, Settings], Scorer]
    encoder: str  # pixels or features
    overrides: tuple[str, ...] = ()
    uses_labels: bool = True
    pools_last: bool = False  # `anomaly` decides nothing but how the map becomes an image score

    def settings(self, set_name: str, seed: int, overrides: Sequence[str]) -> Settings:
        """The complete settings for an image set."""
        config = self.encoder
        if config == "pixels":
            config = "objects" if set_name in OBJECTS else "textures"
        seeds = [f"split.seed={seed}", f"training.seed={seed}", "split.gamma=null", "split.outliers=null"]
        return load_settings(config, [*overrides, *seeds, *self.overrides])


TOP_20 = ("anomaly.pooling=top_k", "anomaly.top_k=20")
MAX = ("anomaly.pooling=map_max",)
NEGATION = ("objective.form=negation", "objective.labels=tile")  # eq. 3 to the letter

METHODS = {
    # The forms without labels come first: what they compute is level 0 of those with labels.
    "vqvae-features": Method("VQ-VAE, features", fit_ss_vq_vae, "features", uses_labels=False),
    "features": Method("ss-VQ-VAE, features", fit_ss_vq_vae, "features"),
    "vqvae-pixels": Method("VQ-VAE, pixels", fit_ss_vq_vae, "pixels", uses_labels=False),
    "pixels": Method("ss-VQ-VAE, pixels, hinge", fit_ss_vq_vae, "pixels"),
    "pixels-negation": Method("ss-VQ-VAE, pixels, negation", fit_ss_vq_vae, "pixels", NEGATION),
    "deep-sad": Method("Deep SAD, pixels", fit_deep_sad, "pixels"),
    "autoencoder": Method("autoencoder, pixels", fit_autoencoder, "pixels", uses_labels=False),
    "kmeans": Method("k-means of frozen features", fit_kmeans, "features", uses_labels=False),
    "memory-bank-max": Method("memory bank, maximum", fit_memory_bank, "features", MAX, False, True),
    "memory-bank-top20": Method("memory bank, top 20", fit_memory_bank, "features", TOP_20, False, True),
}
# Of these the better one on the test of each set is the mark to beat: a choice in its favour.
BANKS = ("memory-bank-max", "memory-bank-top20")

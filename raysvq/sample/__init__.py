"""Generated sample images: steel plates and painted panels with defects, so that a demo needs no download."""

from raysvq.sample.fleet import write_sample

__all__ = ["write_sample"]

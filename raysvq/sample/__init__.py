"""A procedural sample fleet: steel and painted panels with defects, so that a demo needs no downloads."""

from raysvq.sample.fleet import write_sample

__all__ = ["write_sample"]

"""The page of an evaluation: how good a model is, and where it fails."""

from raysvq.report.evaluation.render import render

__all__ = ["render"]

"""One offline HTML file that says how good a model is and where it fails."""

from raysvq.evaluation.report.render import render

__all__ = ["render"]

"""The scored sets that evaluations are tested with."""

from tests.evaluation.conftest import plates, scored_set

__all__ = ["plates", "scored_set"]

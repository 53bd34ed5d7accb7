"""What the tests of scoring have too: a manifest row, a scored image and a bundle."""

from tests.scoring.conftest import bundle, result, source

__all__ = ["bundle", "result", "source"]

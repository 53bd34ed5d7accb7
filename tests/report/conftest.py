"""The scored sets that evaluations are tested with, and the browser that opens pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.browser import Page, open_browser
from tests.evaluation.conftest import plates, scored_set

__all__ = ["browser", "plates", "scored_set"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page

"""What tests of align share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alm_proxies.compare import worth


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """Two draws of the held-out votes: more of them take most of a report's time and change no branch of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "DRAWS", 2)
        yield

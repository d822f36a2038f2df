from __future__ import annotations

from collections.abc import Iterator

import pytest
from web_server import Web, serving

from alm_proxies.remote import copies


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as served:
        yield served


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has two seconds to arrive, with all tries."""
    monkeypatch.setattr(copies, "SECONDS", 2.0)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every opening is the first of a process."""
    monkeypatch.setattr(copies, "_ASK_AGAIN", 0.0)

"""How a ledger is robbed from outside, and what a command says of it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from alm_proxies.errors import AlmProxiesError

Make = Callable[..., Any]


PRICE = {"audio_minute": 300.0}


VOTES, COUNT = 4, 30


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def changed_and_refused(again: Make, ledger: Path, change: str) -> str:
    """Fills a ledger, changes it, runs the command again and gives the error."""
    again()
    sql(ledger, change)
    with pytest.raises(AlmProxiesError) as refused:
        again()
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    return str(refused.value)


def refusal(work: Callable[[], object]) -> AlmProxiesError | None:
    try:
        work()
    except AlmProxiesError as error:
        return error
    return None

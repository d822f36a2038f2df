"""An engine that records all requests and passes them on to another."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import Engine, Reply, Request


class Listening:
    """An engine that records all requests and passes them on to another."""

    def __init__(self, engine: Engine, remember: list[Request], **abilities: Any) -> None:
        self._engine = engine
        self._remember = remember
        self.abilities = replace(engine.abilities, **abilities)

    async def ask(self, request: Request) -> Reply:
        self._remember.append(request)
        return await self._engine.ask(request)

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...] | None:
        return await self._engine.token_counts(texts)

    async def close(self) -> None:
        await self._engine.close()


def listening(asked: list[Request], **abilities: Any) -> Callable[[Annotator], Any]:
    async def engine_of(annotator: Annotator) -> Engine:
        return Listening(await annotator.open(), asked, **abilities)

    return engine_of


def draws(asked: list[Request]) -> int:
    return sum(len(request.seeds) for request in asked)

"""An engine of another package: what it gives is checked, so that a mistake is one sentence with the engine's name."""

from __future__ import annotations

from typing import Any

from alm_proxies.engines.engine import Abilities, Engine, Reply, Request
from alm_proxies.errors import SettingsError


class ThirdParty:
    """An engine around that of another package."""

    def __init__(self, engine: Any, name: str) -> None:
        self._name = name
        if not isinstance(getattr(engine, "abilities", None), Abilities):
            message = f"open() gave {type(engine).__name__}, which has no abilities"
            raise self._wrong(message, "Return an engine with abilities = Abilities(...), ask, token_counts and close.")
        self._engine: Engine = engine

    @property
    def abilities(self) -> Abilities:
        """The engine's abilities."""
        return self._engine.abilities

    async def ask(self, request: Request) -> Reply:
        """The engine's reply; raises for one that is none, or whose texts are no text."""
        reply: object = await self._engine.ask(request)
        if not isinstance(reply, Reply):
            raise self._wrong(f"ask() gave {type(reply).__name__} for {request.utterance_id!r}", "Return a Reply.")
        texts: tuple[object, ...] = reply.texts
        others = [text for text in texts if not isinstance(text, str)]
        if others:
            message = f"ask() gave the answer {others[0]!r} for {request.utterance_id!r}, which is no text"
            raise self._wrong(message, "Return a Reply with one text for each seed.")
        return reply

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...] | None:
        """The number of tokens of each text."""
        return await self._engine.token_counts(texts)

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()

    def _wrong(self, message: str, fix: str) -> SettingsError:
        return SettingsError(message, where=f"the engine {self._name!r}", fix=fix)

"""Code that is not ours and answers requests: engines of other packages, and functions that vote.

What it raises on one recording is a failed vote with its reason, as an error of a server is; what it gives is checked.
"""

from __future__ import annotations

import asyncio
from typing import Any

from alm_proxies.engines.away import Reached
from alm_proxies.engines.engine import Abilities, Engine, Failure, Reply, Request
from alm_proxies.errors import AlmProxiesError, InputError, SettingsError
from alm_proxies.plugins import code_fault_of


def guarded(engine: Any, name: str) -> Engine:
    """The engine; one that is not ours is checked at every answer."""
    ours = type(engine).__module__.partition(".")[0] == __name__.partition(".")[0]
    return engine if ours or isinstance(engine, Reached) else ThirdParty(engine, name)


def code_failure(error: Exception) -> Failure:
    """The failure of a request on which code that is not ours raised an error.

    Errors of ours other than InputError, which is about one recording, are about every request: they are raised again.
    """
    if isinstance(error, AlmProxiesError) and not isinstance(error, InputError):
        raise error
    fault = code_fault_of(error)
    if fault is not error:
        fault.__cause__ = error
    place = f" ({fault.where})" if fault.where else ""
    return Failure("code_error", f"{fault.message}{place}", fault)


class ThirdParty:
    """An engine around that of another package."""

    def __init__(self, engine: Any, name: str) -> None:
        self._name = name
        if not isinstance(getattr(engine, "abilities", None), Abilities):
            message = f"open() gave {type(engine).__name__}, which has no abilities"
            fix = "Return an engine with abilities = Abilities(...), ask, token_counts and close."
            raise SettingsError(message, where=f"the engine {name!r}", fix=fix)
        self._engine: Engine = engine

    @property
    def abilities(self) -> Abilities:
        """The engine's abilities."""
        return self._engine.abilities

    async def ask(self, request: Request) -> Reply:
        """The engine's reply; a failure where its code raises, or gives no reply, or texts that are none."""
        try:
            return self._checked(await self._engine.ask(request), request)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # the run stops
                raise
            message = "work of its own was cancelled, and asyncio.CancelledError left ask()"
            failure = code_failure(RuntimeError(message).with_traceback(error.__traceback__))
        except Exception as error:
            failure = code_failure(error)
        seconds = sum(clip.seconds for clip in request.audio)
        return Reply(request.key, failure=failure, audio_seconds=seconds, counted=0)

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...] | None:
        """The number of tokens of each text."""
        return await self._engine.token_counts(texts)

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()

    def _checked(self, reply: object, request: Request) -> Reply:
        if not isinstance(reply, Reply):
            raise self._wrong(f"ask() gave {type(reply).__name__} for {request.utterance_id!r}", "Return a Reply.")
        texts: tuple[object, ...] = reply.texts
        others = [text for text in texts if not isinstance(text, str)]
        if others:
            message = f"ask() gave the answer {others[0]!r} for {request.utterance_id!r}, which is no text"
            raise self._wrong(message, "Return a Reply with one text for each seed.")
        return reply

    def _wrong(self, message: str, fix: str) -> InputError:
        return InputError(message, where=f"the engine {self._name!r}", fix=fix)

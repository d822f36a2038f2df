"""Annotates in a separate process, which tests kill; every request is printed when it is sent."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import Abilities, Engine, Reply, Request
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Utterances


class Telling:
    """Passes every request on to another engine, after printing it without a buffer."""

    def __init__(self, engine: Engine, in_flight: int) -> None:
        self._engine = engine
        self.abilities: Abilities = replace(engine.abilities, in_flight=in_flight)

    async def ask(self, request: Request) -> Reply:
        os.write(1, f"{request.key}\n".encode())
        return await self._engine.ask(request)

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...] | None:
        return await self._engine.token_counts(texts)

    async def close(self) -> None:
        await self._engine.close()


def main(utterances: str, annotator: str, folder: str, in_flight: str) -> None:
    async def engine_of(annotator_read: Annotator) -> Engine:
        return Telling(await annotator_read.open(), int(in_flight))

    panel = [Annotator.read(Path(annotator))]
    annotated = annotate(Utterances.read(utterances), panel, folder, AnnotateSettings(seed=7), engine_of=engine_of)
    os.write(
        1, f"stopped={annotated.stopped} cast={annotated.spent.cast} interrupted={annotated.interrupted}\n".encode()
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

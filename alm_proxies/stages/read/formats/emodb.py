"""EMO-DB: recordings whose names state the emotion, and erkennung.txt with what listeners recognised."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class EmodbSource(Source):
    """The folder of EMO-DB with wav/ and erkennung.txt, or one of the two alone."""

    format: Literal["emodb"] = "emodb"
    """EMO-DB, as its authors publish it."""


READER = Reader(EmodbSource, "alm_proxies.stages.read.emodb:read_emodb")

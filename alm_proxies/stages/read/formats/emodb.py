"""EMO-DB: recordings with the emotion in their names, and erkennung.txt with the share who recognised it."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class EmodbSource(Source):
    """The folder of EMO-DB with wav/ and erkennung.txt, or only one of the two."""

    format: Literal["emodb"] = "emodb"
    """EMO-DB, as its authors publish it."""


READER = Reader(EmodbSource, "alm_proxies.stages.read.emodb:read_emodb", beside=r"wav|.*\.wav")

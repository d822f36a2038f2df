"""audformat: a database of audEERING's format, db.yaml with its tables."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class AudformatSource(Source):
    """The folder with db.yaml, its tables (CSV or Parquet) and its media."""

    format: Literal["audformat"] = "audformat"
    """A database of the format audformat; needs the extra "audformat"."""
    scheme: str = ""
    """The scheme of the emotion labels. By default the one called emotion, or the only one with labels that raters
    used.
    """
    tables: tuple[str, ...] = ()
    """The tables whose votes are read. By default all; to be named where several count the votes on a file, such as
    those of voice and face.
    """


READER = Reader(AudformatSource, "alm_proxies.stages.read.audformat:read_audformat", beside=r"db\..*")

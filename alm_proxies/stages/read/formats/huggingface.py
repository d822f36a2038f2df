"""Hugging Face data sets with audio and votes, counts or soft labels, read row by row, audio undecoded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from alm_proxies.settings import PLACE
from alm_proxies.stages.read.formats.table import MappedSource
from alm_proxies.stages.read.settings import Reader


class HuggingfaceSource(MappedSource):
    """A folder that `datasets` can load (save_to_disk, audiofolder ...), or one Parquet, JSON lines or CSV file."""

    format: Literal["huggingface"] = "huggingface"
    """A Hugging Face data set on this machine; needs the extra "datasets"."""
    extract: Annotated[Path, PLACE] | None = None
    """Where to write recordings that are inside the data set's files, as they are. By default they are not written."""


READER = Reader(HuggingfaceSource, "alm_proxies.stages.read.huggingface:read_huggingface")

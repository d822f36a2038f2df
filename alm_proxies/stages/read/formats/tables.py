"""Tables that alm-proxies wrote: the folder of simulate, of an earlier read, or of anything else that follows the
contract of the tables.
"""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class TablesSource(Source):
    """A folder with utterances.parquet and votes.parquet, and labels.parquet if there are soft labels."""

    format: Literal["tables"] = "tables"
    """Tables that alm-proxies wrote, such as a simulated corpus."""


READER = Reader(
    TablesSource,
    "alm_proxies.stages.read.our_tables:read_tables",
    files=("utterances.parquet", "votes.parquet", "labels.parquet"),
)

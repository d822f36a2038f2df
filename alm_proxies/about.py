"""What a table says of itself: contract and version, taxonomy, scales, roots, annotators, and who made it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alm_proxies.errors import TableError

CONTRACT = 1
METADATA_KEY = "alm_proxies"


class AnnotatorCard(BaseModel):
    """What an annotator was: enough to know whether two tables mean the same one."""

    model_config = ConfigDict(frozen=True, extra="allow")
    digest: str
    source: Literal["human", "proxy"] = "proxy"
    engine: str | None = None
    model: str | None = None
    revision: str | None = None
    prompt: str | None = None
    elicit: Literal["sample", "score", "state"] = "sample"
    estimand: str | None = None
    cross: dict[str, object] | None = None
    seed: int | None = None


class MadeBy(BaseModel):
    """Which stage wrote a table, from which settings and inputs."""

    model_config = ConfigDict(frozen=True)
    stage: str
    settings: str = ""
    inputs: dict[str, str] = Field(default_factory=dict)


class About(BaseModel):
    """What a table says of itself: contract and version, taxonomy, scales, roots, annotators, who made it."""

    model_config = ConfigDict(frozen=True)
    contract: int = CONTRACT
    version: str = ""
    taxonomy: tuple[str, ...] = ()
    scales: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    roots: dict[str, str] = Field(default_factory=dict)
    annotators: dict[str, AnnotatorCard] = Field(default_factory=dict)
    made_by: MadeBy | None = None

    def with_(self, **changes: object) -> About:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)


def about_of(path: Path) -> About:
    """What a Parquet file says of itself; nothing, if it is a bare one."""
    text = pl.read_parquet_metadata(path).get(METADATA_KEY)
    if text is None:
        return About()
    try:
        about = About.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TableError(f"has metadata that cannot be understood ({place}: {first['msg']})", where=str(path)) from None
    if about.contract > CONTRACT:
        mend = "Update alm-proxies to read it."
        raise TableError(
            f"was written under contract {about.contract}, newer than {CONTRACT}", where=str(path), mend=mend
        )
    return about

"""IEMOCAP: the folder IEMOCAP_full_release, as it is unpacked."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from alm_proxies.stages.read.settings import Reader, Source, checked_split

_SESSIONS = re.compile(r"sessions(:([1-5])(,(?!\2)[1-5])?)?")


def _checked_split(given: str) -> str:
    return given if _SESSIONS.fullmatch(given) else checked_split(given)


class IemocapSource(Source):
    """The folder of IEMOCAP with Session1 to Session5, or one of the sessions."""

    format: Literal["iemocap"] = "iemocap"
    """IEMOCAP, as it is unpacked."""
    several_labels: Literal["each", "share", "first"] = "share"
    """How several emotions of one evaluator count: a vote each, one vote shared among them, or only the first."""
    self_reports: bool = False
    """Also read the actors' self-reports (C-F, C-M, A-F, A-M), as separate annotators."""
    split: Annotated[str, AfterValidator(_checked_split)] | None = None
    """How to split: sessions = one fold per session (fold1 ...); sessions:5 = session 5 is test, the others train;
    sessions:4,5 = 4 is development, 5 is test; "speakers:.7,.1,.2" or "folds:5" as for any corpus.
    """

    @property
    def split_of_speakers(self) -> str | None:
        """Splits by session are made from the turns' names."""
        return None if self.split is not None and _SESSIONS.fullmatch(self.split) else self.split


READER = Reader(IemocapSource, "alm_proxies.stages.read.iemocap:read_iemocap")

"""Dusha: Russian speech of a crowd and of podcasts, one row for each annotator's answer."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class DushaSource(Source):
    """The folder with crowd_train, crowd_test, podcast_train and podcast_test, one of them, or one raw_*.tsv."""

    format: Literal["dusha"] = "dusha"
    """Dusha, as its authors publish it."""
    control_tasks: bool = False
    """Also read clips with a golden label, which controlled the annotators: their votes, and the golden label as the
    annotator consensus. Their authors leave them out of training and test data.
    """


READER = Reader(DushaSource, "alm_proxies.stages.read.dusha:read_dusha", beside="wavs")

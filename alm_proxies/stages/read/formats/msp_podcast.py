"""MSP-Podcast 1.6 to 2.0, and WHiSER and MSP-Face, which have label files of the same shapes."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class MspPodcastSource(Source):
    """The folder of MSP-Podcast, its folder of labels, or one of the label files."""

    format: Literal["msp_podcast"] = "msp_podcast"
    """MSP-Podcast, as it is unpacked; WHiSER (corpus = "whiser") and MSP-Face (corpus = "msp_face") too."""
    transcripts: bool = True
    """Read the transcripts from Transcripts/<clip>.txt, one small file per clip, if that folder is there."""


READER = Reader(
    MspPodcastSource,
    "alm_proxies.stages.read.msp_podcast:read_msp_podcast",
    beside=r"labels(_con[sc]ensus|_detailed)?\.(csv|json|txt)|(partitions|speaker_ids)\.txt|audios?|transcripts",
)

"""EmotionLines: dialogues of Friends and of EmotionPush as JSON, each line with the votes of five raters."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class EmotionlinesSource(Source):
    """The folder of EmotionLines, one of its folders Friends and EmotionPush, or one JSON file."""

    format: Literal["emotionlines"] = "emotionlines"
    """EmotionLines, as its authors publish it; raters read the text and heard nothing."""


READER = Reader(EmotionlinesSource, "alm_proxies.stages.read.emotionlines:read_emotionlines")

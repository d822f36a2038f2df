"""A small table with one row a vote, and how it is written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alm_proxies.settings import settings_of
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.stage import Corpus, ReadSettings, read

LONG = """clip;rater;answer;who;sex;val
a;r1;Happy;s1;F;5
a;r2;joyful;s1;F;3
b;r1;Excited;s2;m;1
b;r2;sad;s2;m;
"""
COLUMNS = {"utterance_id": "clip", "annotator": "rater", "label": "answer", "speaker": "who", "gender": "sex"}


def table(path: Path, taxonomy: str | None = "iemocap4", **settings: Any) -> Corpus:
    source = settings_of(TableSource, {"corpus": "mine", "source": path, **settings}, "the source")
    return read(source, ReadSettings(taxonomy=taxonomy))


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path

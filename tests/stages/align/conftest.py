"""What tests of align share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies.compare import worth
from alm_proxies.tables import About, AnnotatorCard, Utterances, Votes

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
COLUMNS = ("A", "D", "F", "H", "N", "S")


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """Two draws of the held-out votes: more of them take most of a report's time and change no branch of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "DRAWS", 2)
        yield


@pytest.fixture(scope="module")
def corpus(test_data: Path) -> tuple[Votes, Utterances]:
    """CREMA-D: three voice votes to fit and four held out; audio-visual and face votes play two proxies."""
    return _crema_d(test_data, clips=900)


def _crema_d(folder: Path, clips: int) -> tuple[Votes, Utterances]:
    table = pl.read_csv(folder / "crema_d" / "tabulatedVotes.csv", infer_schema_length=None)
    number = pl.col(table.columns[0]) // 100_000
    random = np.random.default_rng(0)
    rows: list[tuple[Any, ...]] = []
    for modality, annotator, most in ((1, "crema_d/crowd", 7), (2, "face", 4), (3, "listener", 6)):
        for row in table.filter(number == modality).sort("fileName").iter_rows(named=True):
            cast = [label for label, c in zip(LABELS, COLUMNS, strict=True) for _ in range(row[c])]
            random.shuffle(cast)
            if len(cast) < most:
                continue
            for draw, label in enumerate(cast[:most]):
                human = modality == 1
                source = "human" if human else "proxy"
                rows.append(("crema_d/" + row["fileName"], annotator, source, draw, label, human and draw >= 3))
    names = ["utterance_id", "annotator", "source", "draw", "label", "held_out"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    every = frame.group_by("utterance_id").agg(pl.col("annotator").n_unique()).filter(pl.col("annotator") == 3)
    ids = every["utterance_id"].sort()
    ids = ids.gather(np.linspace(0, len(ids) - 1, clips).astype(int))
    cards = {
        "listener": AnnotatorCard(
            digest="a", model="av", cross={"temperature": [0.6, 1.0], "focus": ["voice", "words"]}
        ),
        "face": AnnotatorCard(digest="b", model="face", cross={"temperature": [0.6, 1.0]}),
    }
    votes = Votes.of(
        frame.filter(pl.col("utterance_id").is_in(ids.implode())), about=About(taxonomy=LABELS, annotators=cards)
    )
    people = pl.read_csv(folder / "crema_d" / "VideoDemographics.csv").with_columns(
        speaker=pl.col("ActorID").cast(pl.String), gender=pl.col("Sex").str.to_lowercase(),
        age=pl.when(pl.col("Age") < 40).then(pl.lit("under 40")).otherwise(pl.lit("40 and over")),
    )  # fmt: skip
    clips_of = pl.DataFrame({"utterance_id": ids, "speaker": ids.str.slice(8, 4), "corpus": "crema_d"})
    joined = clips_of.join(people.select("speaker", "gender", "age"), on="speaker", how="left")
    return votes, Utterances.of(joined)

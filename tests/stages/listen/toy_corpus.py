"""Tones of six speakers with votes, for the listener."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.tables import Utterances, Votes
from alm_proxies.training.head_settings import HeadSettings

LABELS = ("angry", "happy", "sad")
HEAD = HeadSettings(hidden=16, epochs=20, seeds=2, batch=16, components=16)
SETTINGS = ListenSettings(recipe="features", head=HEAD, folds=3, rounds=2)


@dataclass(frozen=True)
class Corpus:
    folder: Path
    utterances: Utterances
    votes: Votes


def make(folder: Path, speakers: int = 6, each: int = 12) -> Corpus:
    """Tones whose pitch and loudness stand for the label, with three votes each, of which one is held out."""
    rng = np.random.default_rng(0)
    rows, votes = [], []
    for number in range(speakers * each):
        label, speaker = number % 3, f"toy/s{number // each}"
        time = np.arange(6400) / 16_000
        tone = np.sin(2 * np.pi * (120 + 130 * label + 5 * rng.standard_normal()) * time)
        sound = (0.1 + 0.2 * label) * tone + 0.01 * rng.standard_normal(6400)
        soundfile.write(folder / f"{number}.wav", sound, 16_000)
        name = f"toy/{number:03d}"
        rows.append({"utterance_id": name, "corpus": "toy", "audio": f"{number}.wav", "speaker": speaker})
        for rater in range(3):
            cast = label if rng.random() < 0.8 else int(rng.integers(0, 3))
            vote = {"utterance_id": name, "annotator": f"toy/r{rater}", "label": LABELS[cast], "held_out": rater == 2}
            votes.append(vote | {"draw": 0})
    utterances = Utterances.of(pl.DataFrame(rows))
    utterances = Utterances(utterances.frame, utterances.about.with_(roots={"toy": str(folder)}))
    return Corpus(folder, utterances, Votes.of(pl.DataFrame(votes), taxonomy=LABELS))

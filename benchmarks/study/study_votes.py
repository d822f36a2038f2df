"""CREMA-D as the study takes it: without the lockbox, votes in seeded orders, proxies as they are or damaged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from study_design import LOCKBOX, STRATUM_VOTES, Arm

from alm_proxies.errors import InputError
from alm_proxies.seeds import generator
from alm_proxies.tables import Utterances

Array = NDArray[np.float64]
Index = NDArray[np.int64]
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
_COLUMNS = ("A", "D", "F", "H", "N", "S")
_CONFUSED = {
    "angry": "disgust",
    "disgust": "neutral",
    "fear": "sad",
    "happy": "neutral",
    "neutral": "sad",
    "sad": "fear",
}
"""What a fixed confusion makes of a label: likely mistakes, two of which cannot be distinguished afterwards."""
_LOG = "lockbox.jsonl"


@dataclass(frozen=True, slots=True)
class Opening:
    """The proof that the lockbox was opened by a logged command."""

    when: str
    commit: str
    reason: str


def open_lockbox(folder: Path, reason: str, *, missing: Collection[str]) -> Opening:
    """Open the lockbox once: refused while cells of the base block are missing, without a reason, or a second time."""
    path = folder / _LOG
    if path.exists():
        raise InputError("the lockbox was opened before", where=str(path), fix="Use the results of that opening.")
    if missing:
        message = f"{len(missing)} cells of the base block have not been run, the first {min(missing)}"
        raise InputError(message, where="lockbox", fix="Run them first: the lockbox is opened once, at the end.")
    if not reason.strip():
        raise InputError("no reason is given", where="lockbox", fix="Say why it is opened.")
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    opening = Opening(datetime.now(UTC).isoformat(timespec="seconds"), commit, reason)
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(asdict(opening)) + "\n")
    return opening


def opening_of(folder: Path) -> Opening:
    """The logged opening; an error where there was none."""
    path = folder / _LOG
    if not path.exists():
        raise InputError("the lockbox has not been opened", where=str(path), fix="Open it with open-lockbox.")
    return Opening(**json.loads(path.read_text(encoding="utf-8")))


def refuse_lockbox(actors: Iterable[str]) -> None:
    """An error where an actor of the lockbox is among them."""
    locked = sorted(set(actors) & set(LOCKBOX))
    if locked:
        fix = "It is opened once, at the end, by the command open-lockbox."
        raise InputError(f"actor {locked[0]} is in the lockbox", where="lockbox", fix=fix)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Clips in order: names, actors, and the vote counts of the three modalities."""

    clips: tuple[str, ...]
    actors: NDArray[np.str_]
    voice: Array
    face: Array
    audio_visual: Array
    utterances: Utterances
    opening: Opening | None = None
    """Of a corpus with the lockbox: its logged opening."""
    name: str = "crema_d"

    def __post_init__(self) -> None:
        if self.opening is None:
            refuse_lockbox(self.actors.tolist())

    @property
    def ids(self) -> tuple[str, ...]:
        """Utterance ids."""
        return tuple(f"{self.name}/{clip}" for clip in self.clips)


def read_corpus(folder: Path, opening: Opening | None = None) -> Corpus:
    """The clips of `tabulatedVotes.csv`, `VideoDemographics.csv` and `AudioWAV/`; those of the lockbox only after its
    logged opening."""
    locked = LOCKBOX if opening is None else ()
    tables = [folder / "tabulatedVotes.csv", folder / "processedResults" / "tabulatedVotes.csv"]
    source = next((path for path in tables if path.exists()), None)
    if source is None:
        raise InputError("there is no tabulatedVotes.csv", where=str(folder), fix="Name the folder of CREMA-D.")
    frame = pl.read_csv(source, infer_schema_length=None, null_values=["NA"])
    frame = frame.rename({frame.columns[0]: "row"}).with_columns(clip=pl.col("row") % 100_000).sort("clip")
    frame = frame.filter(~pl.col("fileName").str.slice(0, 4).is_in(locked))
    parts = [frame.filter(pl.col("row") // 100_000 == modality) for modality in (1, 2, 3)]
    if any(not part["clip"].equals(parts[0]["clip"]) for part in parts):
        raise InputError("the three modalities do not hold the same clips", where="tabulatedVotes.csv")
    counts = [part.select(_COLUMNS).to_numpy().astype(np.float64) for part in parts]
    clips = parts[0]["fileName"].to_list()
    actors = [clip[:4] for clip in clips]
    there = {path.stem: str(path) for path in (folder / "AudioWAV").iterdir() if path.stem[:4] not in locked}
    people = pl.read_csv(folder / "VideoDemographics.csv").select(
        speaker=pl.col("ActorID").cast(pl.String), gender=pl.col("Sex").str.to_lowercase()
    )
    table = pl.DataFrame(
        {
            "utterance_id": [f"crema_d/{clip}" for clip in clips],
            "corpus": "crema_d",
            "audio": [there.get(clip) for clip in clips],
            "speaker": actors,
            "split": "train",
        }
    ).join(people, on="speaker", how="left", maintain_order="left")
    return Corpus(tuple(clips), np.array(actors), *counts, Utterances.of(table), opening)


def ordered_votes(counts: Array, clips: Iterable[str], seed: int, stream: str) -> list[Index]:
    """The votes of every clip in a seeded order; each clip has a stream of its own."""
    return [
        generator(seed, stream, clip).permutation(np.repeat(np.arange(len(LABELS)), row.astype(np.int64)))
        for clip, row in zip(clips, counts, strict=True)
    ]


def counted(votes: Iterable[Index]) -> Array:
    """Votes as counts of labels, one row a clip."""
    return np.stack([np.bincount(labels, minlength=len(LABELS)) for labels in votes]).astype(np.float64)


def first_votes(corpus: Corpus, k: int, seed: int) -> Array:
    """The first k voice votes of every clip: with more votes the earlier ones stay."""
    return counted(votes[:k] for votes in ordered_votes(corpus.voice, corpus.clips, seed, "study votes"))


def scored_votes(corpus: Corpus, seed: int) -> tuple[Array, Array]:
    """Of every clip the votes that assign its stratum, and those that are scored: none of clips with few votes."""
    votes = ordered_votes(corpus.voice, corpus.clips, seed, "study scored votes")
    enough = [labels if len(labels) >= 2 * STRATUM_VOTES else labels[:0] for labels in votes]
    return counted(labels[:STRATUM_VOTES] for labels in enough), counted(labels[STRATUM_VOTES:] for labels in enough)


def proxy_votes(corpus: Corpus, arm: Arm, seed: int) -> Array:
    """The votes of an arm's proxy: all or the first n of every clip, some of them replaced."""
    given = corpus.face if arm.proxy == "face" else corpus.audio_visual
    shares = given.sum(0) / given.sum()
    wrong = np.array([LABELS.index(_CONFUSED[label]) for label in LABELS])
    drawn = []
    for clip, votes in zip(corpus.clips, ordered_votes(given, corpus.clips, seed, "study proxy votes"), strict=True):
        taken = votes[: arm.proxy_votes or None]
        if arm.damage != "none":
            chance = generator(seed, "study damage", clip)
            replaced = chance.random(len(votes))[: len(taken)] < arm.dose
            other = wrong[votes] if arm.damage == "confusion" else chance.choice(len(LABELS), len(votes), p=shares)
            taken = np.where(replaced, other[: len(taken)], taken)
        drawn.append(taken)
    return counted(drawn)


def labelled(corpus: Corpus, rows: Index, share: float, seed: int) -> NDArray[np.bool_]:
    """Which of some rows have human votes: a seeded sample of that share."""
    draw = np.array([generator(seed, "study labelled", corpus.clips[row]).random() for row in rows])
    chosen = np.zeros(len(rows), dtype=np.bool_)
    chosen[np.argsort(draw, kind="stable")[: round(share * len(rows))]] = True
    return chosen

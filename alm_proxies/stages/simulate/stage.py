"""simulate: a corpus of synthetic speech, a simulated crowd's votes, and the distributions they were drawn from."""

from __future__ import annotations

import io
import math
import os
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies import __version__
from alm_proxies.arguments import checked
from alm_proxies.errors import InputError
from alm_proxies.files import digest_of, read_text, whole, write_bytes, write_json
from alm_proxies.printable import counted
from alm_proxies.progress import Progress
from alm_proxies.seeds import generator
from alm_proxies.shown import Shown
from alm_proxies.stages.simulate.cues import CUES, LABELS, Array
from alm_proxies.stages.simulate.dialogues import Turn, turns_of
from alm_proxies.stages.simulate.listeners import true_distribution, true_rating
from alm_proxies.stages.simulate.settings import SimulateSettings
from alm_proxies.stages.simulate.speakers import Speaker, speaker
from alm_proxies.stages.simulate.timeline import tracks_of
from alm_proxies.stages.simulate.voice import SAMPLE_RATE, Samples, sounded, with_energy
from alm_proxies.stages.simulate.voting import votes_of
from alm_proxies.stages.simulate.words import transcript_of
from alm_proxies.tables import ATTRIBUTES, About, Finding, Findings, Labels, MadeBy, Utterances, Votes

__all__ = ["MARKER", "PARAMETERS", "Corpus", "SimulateSettings", "simulate"]

MARKER = "simulate.json"
PARAMETERS = "parameters.parquet"
_TABLES = ("truth.parquet", "votes.parquet", "utterances.parquet", PARAMETERS)


@dataclass(frozen=True, slots=True, repr=False)
class Corpus(Shown):
    """A simulated corpus: utterances, votes, and the crowd's expected distributions."""

    utterances: Utterances
    votes: Votes
    truth: Labels
    findings: Findings

    @property
    def line(self) -> str:
        """The number of utterances and votes."""
        return f"{counted(len(self.utterances), 'utterance')}, {counted(len(self.votes), 'vote')}"

    @property
    def counts(self) -> dict[str, float]:
        """The number of utterances, votes and other parts."""
        return {"utterances": len(self.utterances), "votes": len(self.votes)}


@checked
def simulate(
    folder: str | Path, settings: SimulateSettings, *, workers: int | None = None, quiet: bool = False
) -> Corpus:
    """Write utterances, votes, truth, parameters and wavs into a folder; an interrupted run is resumed.

    truth is `true_distribution(parameters)`: the mean answer of the whole crowd to the measured cues. The
    same settings give the same bytes, whatever the number of workers.
    """
    folder = Path(folder)
    digest = digest_of({"version": __version__, **settings.model_dump(mode="json")})
    _own(folder, settings, digest)
    people = [speaker(index, crowd=settings.crowd, corpus=settings.corpus) for index in range(settings.speakers)]
    turns = turns_of(settings.utterances, people, seed=settings.seed, crowd=settings.crowd)
    spoken: list[_Spoken] = []
    with Progress("speaking", len(turns), quiet=quiet) as progress:
        for utterance in _spoken(turns, people, folder / "wav", settings, workers or os.cpu_count() or 1):
            spoken.append(utterance)
            progress.advance()
    corpus = _tables(turns, spoken, people, folder, settings, digest)
    parameters = pl.DataFrame({"utterance_id": corpus.utterances.frame["utterance_id"]}).with_columns(
        *(pl.Series(name, [utterance.cues[k] for utterance in spoken]) for k, name in enumerate(CUES)),
        headroom=pl.Series([utterance.headroom for utterance in spoken]),
    )
    with whole(folder / PARAMETERS) as temporary:
        parameters.write_parquet(temporary)
    corpus.utterances.write(folder / "utterances.parquet")
    corpus.votes.write(folder / "votes.parquet")
    corpus.truth.write(folder / "truth.parquet")
    return corpus


@dataclass(frozen=True, slots=True)
class _Spoken:
    cues: Array
    headroom: float
    seconds: float
    kept: bool


def _own(folder: Path, settings: SimulateSettings, digest: str) -> None:
    """Prepare the folder: keep a corpus with the same settings, clear another one, refuse other files."""
    marker = folder / MARKER
    if marker.is_file():
        if f'"{digest}"' in read_text(marker):
            for part in (folder / "wav").glob(".*.part"):
                part.unlink()
            return
        for name in _TABLES:
            (folder / name).unlink(missing_ok=True)
        for sound in (folder / "wav").glob("*.wav"):
            sound.unlink()
    elif any((folder / name).exists() for name in (*_TABLES, "wav")):
        raise InputError(
            "has tables or recordings that simulate did not write", where=str(folder), fix="Choose another folder."
        )
    write_json(marker, {"digest": digest, "version": __version__, "settings": settings.model_dump(mode="json")})


def _spoken(
    turns: list[Turn], people: list[Speaker], folder: Path, settings: SimulateSettings, workers: int
) -> Iterator[_Spoken]:
    """Synthesise every turn, in order, with several threads; numpy releases the interpreter's lock."""

    def spoken_turn(turn: Turn) -> _Spoken:
        path = folder / f"{turn.number:06d}.wav"
        who = people[turn.speaker]
        chance = generator(settings.seed, "voice", settings.crowd, turn.number)
        tracks = tracks_of(turn.clauses, who, turn.wanted, chance)
        samples = _read_wav(path) if path.is_file() else None
        if samples is not None and len(samples) == tracks.samples(SAMPLE_RATE):
            return _spoken_from(samples, with_energy(tracks, samples, who), kept=True)
        spoken = sounded(tracks, who, turn.wanted, chance)
        write_bytes(path, _wav(spoken.samples))
        return _spoken_from(spoken.samples, spoken.cues, kept=False)

    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(spoken_turn, turns)
    finally:
        pool.shutdown(cancel_futures=True)


def _spoken_from(samples: Samples, cues: Array, *, kept: bool) -> _Spoken:
    loudest = max(1, int(np.abs(samples.astype(np.int32)).max()))
    return _Spoken(cues, 20 * math.log10(32768 / loudest), len(samples) / SAMPLE_RATE, kept)


def _wav(samples: Samples) -> bytes:
    """Samples as a 16-bit mono WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _read_wav(path: Path) -> Samples | None:
    """The samples of a WAV file we wrote, or None if it is incomplete."""
    try:
        with wave.open(str(path), "rb") as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, SAMPLE_RATE):
                return None
            content = file.readframes(file.getnframes())
            whole_file = len(content) == 2 * file.getnframes()
            return np.frombuffer(content, dtype="<i2").astype(np.int16) if whole_file else None
    except (wave.Error, EOFError):
        return None


def _tables(
    turns: list[Turn],
    spoken: list[_Spoken],
    people: list[Speaker],
    folder: Path,
    settings: SimulateSettings,
    digest: str,
) -> Corpus:
    prefix = settings.corpus
    ids = [f"{prefix}/{turn.number:06d}" for turn in turns]
    cues = np.stack([utterance.cues for utterance in spoken])
    about = About(taxonomy=LABELS, made_by=MadeBy(stage="simulate", settings_digest=digest))
    utterances = pl.DataFrame(
        {
            "utterance_id": ids,
            "corpus": prefix,
            "audio": [f"wav/{turn.number:06d}.wav" for turn in turns],
            "duration": [utterance.seconds for utterance in spoken],
            "speaker": [people[turn.speaker].name for turn in turns],
            "dialogue": [f"{prefix}/d{turn.dialogue:05d}" for turn in turns],
            "turn": [turn.turn for turn in turns],
            "gender": [people[turn.speaker].gender for turn in turns],
            "language": "en",
            "transcript": [transcript_of(turn.clauses) for turn in turns],
            "intended": [turn.intended for turn in turns],
            "split": [turn.split for turn in turns],
        }
    )
    votes = votes_of(
        ids, cues, corpus=prefix, votes=settings.votes, dense=settings.dense, crowd=settings.crowd, seed=settings.seed
    )
    shares = true_distribution(cues, settings.crowd)
    rating = true_rating(cues, settings.crowd)
    truth = pl.DataFrame({"utterance_id": ids}).with_columns(
        *(pl.Series(f"p_{label}", shares[:, k]) for k, label in enumerate(LABELS)),
        *(pl.Series(name, rating.mean[:, k]) for k, name in enumerate(ATTRIBUTES)),
        *(pl.Series(f"{name}_sd", rating.spread[:, k]) for k, name in enumerate(ATTRIBUTES)),
    )
    roots = {prefix: str(folder.resolve())}
    return Corpus(
        utterances=Utterances.of(utterances, about=about.with_(roots=roots)),
        votes=Votes.of(votes, about=about),
        truth=Labels.of(truth, about=about, where="truth"),
        findings=_findings(spoken),
    )


def _findings(spoken: list[_Spoken]) -> Findings:
    kept = sum(utterance.kept for utterance in spoken)
    if not kept:
        return Findings.gather([])
    message = "recordings of an earlier run with the same settings were kept"
    return Findings.gather([Finding("simulate", "kept", message, count=kept)])

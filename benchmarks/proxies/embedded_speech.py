"""The speech that the embedded annotator learns from: mel cells, votes, and what a larger model hears in each frame.

Real speech is CREMA-D without the lockbox; synthetic speech is pipelines/embedded.toml. Everything is measured once and
kept in a folder. Effects are drawn anew for every batch, on the cells (embedded_training.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.audio.clip import RATE, Clip, open_clip
from alm_proxies.audio.effects import apply
from alm_proxies.files import digest_file, digest_of
from alm_proxies.models.encoder import Encoder
from alm_proxies.progress import Progress
from alm_proxies.seeds import generator
from alm_proxies.tables import Utterances

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "study"))
from study_design import LOCKBOX

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
LETTERS = ("A", "D", "F", "H", "N", "S")
CORPUS = "crema_d"
DEVELOPMENT = ("1005", "1015", "1021", "1033", "1047", "1057", "1073", "1087")
"""Actors outside the lockbox who judge the model in the end: nothing is learned from them."""
CHOOSING = ("1003", "1017", "1037", "1051", "1061", "1077")
"""Actors by whom settings are chosen: left out while choosing, learned from in the end."""
CHUNK = 492
"""Clips in one kept file."""
BANDS = 110
"""Mel bands, of 128, that end below 5.2 kHz; the others have no weight, for CREMA-D was an 11 kHz copy here."""
BINS = 128
"""Mel bands of the model's input."""
FLOOR = 2.0
"""The extractor's floor below a clip's loudest cell, in its own unit."""
TEACHER_LAYERS = (2, 3, 4)
COMPONENTS = 64
"""Principal components of the teacher's frames that are predicted."""
COMPONENTS_FILE = "components.npz"
_HOP = 160
_JOINT = 160  # samples over which a piece of a clip fades in and out
_TAIL = 480  # samples of silence after a clip, so that its last frames are as with padding to 30 s


@dataclass(frozen=True, slots=True)
class Clips:
    """Recordings of CREMA-D with the votes of raters who heard the voice alone."""

    names: tuple[str, ...]
    actors: NDArray[np.str_]
    votes: Array
    paths: tuple[Path, ...]

    def of(self, actors: Sequence[str]) -> NDArray[np.int64]:
        """The rows of some actors."""
        return np.flatnonzero(np.isin(self.actors, list(actors)))

    def only(self, actors: Sequence[str]) -> Clips:
        """The clips of some actors."""
        rows = self.of(actors)
        names, paths = ([whole[row] for row in rows] for whole in (self.names, self.paths))
        return Clips(tuple(map(str, names)), self.actors[rows], self.votes[rows], tuple(map(Path, paths)))


def crema_d(data: Path, *, lockbox: bool = False) -> Clips:
    """The clips of all actors outside the lockbox; or of the lockbox alone."""
    frame = pl.read_csv(data / "tabulatedVotes.csv", infer_schema_length=None, null_values=["NA"])
    frame = frame.rename({frame.columns[0]: "row"}).filter(pl.col("row") < 200_000).sort("row")
    actor = pl.col("fileName").str.slice(0, 4)
    frame = frame.filter(actor.is_in(list(LOCKBOX)) == lockbox).with_columns(actor=actor)
    there = {path.stem: path for path in (data / "AudioWAV").iterdir()}
    names = tuple(frame["fileName"])
    votes = frame.select(LETTERS).to_numpy().astype(np.float64)
    return Clips(names, frame["actor"].to_numpy().astype(np.str_), votes, tuple(there[name] for name in names))


def sources(clips: Clips, data: Path, teacher: Path) -> dict[str, str]:
    """Digests of the votes, of the recordings and of the teacher's weights."""
    return {
        "tabulatedVotes.csv": digest_file(data / "tabulatedVotes.csv"),
        "AudioWAV": digest_of([[path.name, digest_file(path)] for path in clips.paths]),
        "teacher": digest_file(teacher / "model.safetensors"),
    }


@dataclass(frozen=True, slots=True)
class Cells:
    """Mel cells of clips, concatenated; clip i has frames starts[i] to starts[i + 1]."""

    starts: NDArray[np.int64]
    mel: NDArray[Any]
    frames: NDArray[np.float16] | None = None
    """The teacher's components every 20 ms; clip i begins at teacher_starts[i]."""
    teacher_starts: NDArray[np.int64] | None = None
    pooled: Floats | None = None
    """The teacher's layers pooled over time."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def clip(self, row: int) -> Floats:
        """One clip, frames x bands."""
        return self.mel[self.starts[row] : self.starts[row + 1]].astype(np.float32)

    def taught(self, row: int) -> Floats | None:
        """What the teacher hears in one clip, frames of 20 ms x components."""
        if self.frames is None or self.teacher_starts is None:
            return None
        return self.frames[self.teacher_starts[row] : self.teacher_starts[row + 1]].astype(np.float32)

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        partial = path.with_suffix(".part.npz")
        parts = {name: getattr(self, name) for name in self.__slots__}
        np.savez(partial, **{name: value for name, value in parts.items() if value is not None})
        partial.rename(path)

    def of(self, rows: NDArray[np.int64]) -> Cells:
        """Those of some clips."""
        mels, frames = [self.clip(row) for row in rows], [self.taught(row) for row in rows]
        known = [states for states in frames if states is not None]
        return Cells(
            _starts(mels),
            np.concatenate(mels).astype(self.mel.dtype),
            np.concatenate(known).astype(np.float16) if known else None,
            _starts(known) if known else None,
            None if self.pooled is None else self.pooled[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence[Cells]) -> Cells:
        """Several parts as one."""
        joined: dict[str, NDArray[np.generic]] = {}
        for name in ("mel", "frames", "pooled"):
            joined[name] = np.concatenate([getattr(part, name) for part in parts])
        for name in ("starts", "teacher_starts"):
            counts = np.concatenate([np.diff(getattr(part, name)) for part in parts])
            joined[name] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(**joined)  # type: ignore[arg-type]  # arrays of the types that each field names

    @classmethod
    def read(cls, path: Path) -> Cells:
        """Read what `write` wrote."""
        with np.load(path) as file:
            return cls(**dict(file))


@dataclass(frozen=True, slots=True)
class Hearing:
    """What hears real speech: the model's extractor, and the teacher; and where its components are kept."""

    extractor: object
    teacher: Path
    components: Path


def real_speech(clips: Clips, hearing: Hearing, folder: Path, version: int = 0) -> Cells:
    """The cells of all clips, with what the teacher hears; kept in the folder, some hundred clips a file.

    Version 0 is the recordings; in version 1 the voice and pace of each clip are changed, by the seed of its name; in
    the others each clip is pieces of clips of its actor, and the voice is changed more: other sentences of strangers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    components(clips, hearing)
    parts = []
    for start in range(0, len(clips.names), CHUNK):
        some = range(start, min(start + CHUNK, len(clips.names)))
        path = folder / (f"real-{start}.npz" if version == 0 else f"version-{version}-{start}.npz")
        if not path.exists():
            _hear([partial(_voiced, clips, row, version) for row in some], hearing, path)
        parts.append(Cells.read(path))
    return Cells.joined(parts)


def _voiced(clips: Clips, row: int, version: int) -> Clip:
    """One clip in a version."""
    clip = open_clip(clips.paths[row])
    if version == 0:
        return clip
    rng = generator(version, "embedded voice", clips.names[row])
    samples = clip.samples if version == 1 else in_pieces(clips, row, rng)
    other = other_voice(samples.astype(np.float64), clip.rate, rng, strange=version > 1)
    return Clip(other.astype(np.float32), clip.rate)


def _hear(opened: Sequence[Callable[[], Clip]], hearing: Hearing, kept: Path) -> None:
    encoder = Encoder.load(hearing.teacher, device="cpu")
    with np.load(hearing.components / COMPONENTS_FILE) as file:
        centre, basis = file["centre"], file["basis"]
    mels, frames, pooled = [], [], []
    with Progress(kept.stem, len(opened), quiet=False) as progress:
        for open_one in opened:
            clip = open_one()
            mels.append(mel_of(clip, hearing.extractor))
            states, statistics = taught_by(encoder, clip)
            frames.append(((states - centre) @ basis).astype(np.float16))
            pooled.append(statistics)
            progress.advance()
    statistics_of_all = np.stack(pooled).astype(np.float32)
    Cells(_starts(mels), np.concatenate(mels), np.concatenate(frames), _starts(frames), statistics_of_all).write(kept)


def other_voice(samples: Array, rate: int, rng: np.random.Generator, *, strange: bool) -> Array:
    """The clip with another pitch and formants, and another pace."""
    widest, slowest, fastest = (5.0, 0.78, 1.3) if strange else (2.5, 0.88, 1.14)
    higher = apply("pitch", samples, rate, {"semitones": float(rng.uniform(-widest, widest))}, rng)
    return apply("speed", higher, rate, {"factor": float(rng.uniform(slowest, fastest))}, rng)


def in_pieces(clips: Clips, row: int, rng: np.random.Generator) -> Floats:
    """Two to four pieces of clips of the actor, half of the time all of one acted emotion, one after the other."""
    emotion = clips.names[row].split("_")[2]
    own = [other for other in clips.of([clips.actors[row]]) if clips.names[other].split("_")[2] == emotion]
    among = own if rng.random() < 0.5 else clips.of([clips.actors[row]])
    pieces = []
    for other in [row, *rng.choice(among, int(rng.integers(1, 4)))]:
        samples = open_clip(clips.paths[other]).samples
        size = min(len(samples), int(rng.uniform(0.5, 1.3) * RATE))
        sums = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
        power = sums[size:] - sums[:-size]
        start = int(rng.choice(np.flatnonzero(power >= 0.3 * power.max())))
        piece = samples[start : start + size].copy()
        piece[:_JOINT] *= np.linspace(0, 1, _JOINT, dtype=np.float32)
        piece[-_JOINT:] *= np.linspace(1, 0, _JOINT, dtype=np.float32)
        pieces.append(piece)
    return np.concatenate([pieces[place] for place in rng.permutation(len(pieces))])


def synthetic_speech(utterances: Utterances, hearing: Hearing, folder: Path) -> Cells:
    """The cells of simulated clips, in the order of their table, with what the teacher hears; kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = digest_of(utterances.frame["utterance_id"].to_list())
    parts = []
    for start in range(0, len(utterances.frame), CHUNK):
        path = folder / f"synthetic-{names}-{start}.npz"
        if not path.exists():
            some = utterances.frame.select("corpus", "audio")[start : start + CHUNK].iter_rows()
            paths = [Path(utterances.about.roots.get(corpus, "")) / audio for corpus, audio in some]
            _hear([partial(open_clip, audio) for audio in paths], hearing, path)
        parts.append(Cells.read(path))
    return Cells.joined(parts)


def heard_once(utterances: Utterances, extractor: object) -> Cells:
    """The cells of recordings that are not learned from, in the precision of the model's own input."""
    mels = []
    for corpus, audio in utterances.frame.select("corpus", "audio").iter_rows():
        clip = open_clip(Path(utterances.about.roots.get(corpus, "")) / audio)
        mels.append(mel_of(clip, extractor, np.float32))
    return Cells(_starts(mels), np.concatenate(mels))


def mel_of(clip: Clip, extractor: object, precision: type = np.float16) -> NDArray[Any]:
    """The model's own mel cells of a clip, without the bands that have no weight."""
    count = -(-len(clip.samples) // _HOP)
    size = count * _HOP + _TAIL
    features = extractor(  # type: ignore[operator]  # a transformers class without types
        clip.samples, sampling_rate=RATE, padding="max_length", max_length=size, return_tensors="np"
    )
    return np.ascontiguousarray(features["input_features"][0, :BANDS, :count].T.astype(precision))


def taught_by(encoder: Encoder, clip: Clip) -> tuple[Floats, Floats]:
    """The teacher's frames (layers concatenated), and their means and deviations over time."""
    import torch

    with torch.inference_mode():
        hidden = encoder(encoder.prepare([clip.samples]))
        frames = torch.cat([hidden.states[layer][0] for layer in TEACHER_LAYERS], dim=1)
        return frames.numpy(), hidden.pooled(TEACHER_LAYERS)[0].flatten().numpy()


def components(clips: Clips, hearing: Hearing) -> None:
    """Keep mean and first principal directions of the teacher's frames of actors who do not judge; projections have a
    mean variance of one.
    """
    path = hearing.components / COMPONENTS_FILE
    if path.exists():
        return
    encoder = Encoder.load(hearing.teacher, device="cpu")
    rows = np.flatnonzero(~np.isin(clips.actors, DEVELOPMENT))
    some = [clips.paths[row] for row in rows[:: max(1, len(rows) // 150)]]
    frames = np.concatenate([taught_by(encoder, open_clip(path))[0] for path in some]).astype(np.float64)
    centre, spread = frames.mean(0), frames.std(0)
    _, sizes, turn = np.linalg.svd((frames - centre) / spread, full_matrices=False)
    basis = turn[:COMPONENTS].T / spread[:, None]
    size = np.sqrt(np.square(sizes[:COMPONENTS]).mean() / len(frames))
    print(f"{COMPONENTS} components: {np.square(sizes[:COMPONENTS]).sum() / np.square(sizes).sum():.0%} of variance")
    np.savez(path, centre=centre.astype(np.float32), basis=(basis / size).astype(np.float32))


def _starts(parts: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)

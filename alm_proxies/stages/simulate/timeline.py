"""Control tracks from words and wanted cues: formants, voice, noise and pitch, every five milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm_proxies.stages.simulate.cues import Array
from alm_proxies.stages.simulate.phones import Piece, is_vowel, pieces_of
from alm_proxies.stages.simulate.speakers import Speaker
from alm_proxies.stages.simulate.words import LEXICON, LIGHT, Clauses, syllables

FRAMES_PER_SECOND = 200

Flags = NDArray[np.bool_]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tracks:
    """Control tracks of one utterance, one value a frame; `cues` are those reached (energy is known once rendered)."""

    formants: Array
    voicing: Array
    aspiration: Array
    frication: Array
    noise_centre: Array
    noise_width: Array
    nasal: Array
    hertz: Array
    loudness: Array
    creak: Array
    spoken: Flags
    cues: Array

    def samples(self, sample_rate: int) -> int:
        """How many samples the tracks last."""
        return len(self.hertz) * sample_rate // FRAMES_PER_SECOND


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of a phone with its place in time; a pause has the phone ""."""

    piece: Piece
    phone: str
    clause: int
    accent: float
    lengthening: float


def tracks_of(clauses: Clauses, who: Speaker, wanted: Array, chance: np.random.Generator) -> Tracks:
    """The control tracks of clauses as a speaker would say them with the wanted cues."""
    stretches = _stretches(clauses, chance)
    frames = _frames(stretches, clauses, who, float(wanted[4]), chance)
    index = np.repeat(np.arange(len(stretches)), frames)

    def steps(values: list[float]) -> Array:
        return np.array(values, dtype=np.float64)[index]

    pieces = [stretch.piece for stretch in stretches]
    spoken = np.array([stretch.phone != "" for stretch in stretches])[index]
    voicing = _smooth(steps([piece.voicing for piece in pieces]), 2.5)
    position = np.linspace(0.0, 1.0, len(index))
    within = _within_clause(stretches, index)
    accent = _smooth(steps([stretch.accent for stretch in stretches]), 8.0)
    semitones = _melody(voicing > 0.2, position, within, accent, who, wanted, chance)
    reached = wanted.copy()
    reached[:3] = _melody_cues(semitones, voicing > 0.2, position, who)
    reached[4] = np.log2(syllable_count(clauses) / (spoken.sum() / FRAMES_PER_SECOND) / who.rate)
    return Tracks(
        formants=_formants(stretches, index, who),
        voicing=voicing,
        aspiration=_smooth(steps([piece.aspiration for piece in pieces]), 1.2),
        frication=_smooth(steps([piece.frication for piece in pieces]), 0.8),
        noise_centre=steps([piece.noise_centre for piece in pieces]) * min(1.15, who.tract),
        noise_width=steps([piece.noise_width for piece in pieces]),
        nasal=_smooth(steps([piece.nasal for piece in pieces]), 2.0),
        hertz=who.pitch * 2 ** (semitones / 12),
        loudness=2.6 * accent - 4.0 * within**3 - 1.5 * position,
        creak=who.creak * np.clip((position - 0.82) / 0.1, 0.0, 1.0) * np.exp(-max(0.0, float(wanted[0])) / 4),
        spoken=spoken,
        cues=reached,
    )


def syllable_count(clauses: Clauses) -> int:
    """How many syllables the clauses have together."""
    return sum(syllables(clause) for clause in clauses)


def _stretches(clauses: Clauses, chance: np.random.Generator) -> list[_Stretch]:
    pause = Piece(0.0, None, 0.0)
    out = [_Stretch(pause, "", 0, 0.0, 1.0)]
    for number, clause in enumerate(clauses):
        for place, word in enumerate(clause):
            phones = LEXICON[word]
            last = place == len(clause) - 1
            weight = 0.15 if word in LIGHT and not last else float(chance.uniform(0.5, 1.3))
            nucleus = max(i for i, phone in enumerate(phones) if is_vowel(phone))
            for i, phone in enumerate(phones):
                accent = weight if phone.endswith("1") else 0.25 * weight if is_vowel(phone) else 0.0
                lengthening = (1.4 if last and i >= nucleus else 1.0) * (1 + 0.25 * max(0.0, accent - 0.5))
                out.extend(_Stretch(piece, phone, number, accent, lengthening) for piece in pieces_of(phone))
        out.append(_Stretch(pause, "", number, 0.0, 1.0))
    return out


def _frames(
    stretches: list[_Stretch], clauses: Clauses, who: Speaker, rate: float, chance: np.random.Generator
) -> Index:
    """The number of frames of each part, for the wanted syllables per second of speech.

    Bursts and closures stretch less than vowels: natural length x (common factor)^elasticity.
    """
    natural = np.array([s.piece.milliseconds * s.lengthening for s in stretches]) / 1000 * FRAMES_PER_SECOND
    natural *= np.exp(chance.normal(0.0, 0.1, len(stretches)))
    talk = np.array([s.phone != "" for s in stretches])
    wanted = syllable_count(clauses) / (who.rate * 2**rate) * FRAMES_PER_SECOND
    elastic = np.array([s.piece.elastic for s in stretches])
    lengths = natural * (wanted / natural[talk].sum()) ** elastic
    lengths[talk] *= wanted / lengths[talk].sum()
    pauses = who.pause * 2 ** (-1.5 * rate) * np.exp(chance.normal(0.0, 0.25, len(stretches)))
    lengths[~talk] = np.clip(pauses[~talk], 0.06, 0.8) * FRAMES_PER_SECOND
    lengths[0], lengths[-1] = chance.uniform(18, 36), chance.uniform(24, 44)
    edges = np.rint(np.concatenate([[0.0], np.cumsum(lengths)])).astype(np.int64)
    return np.asarray(np.maximum(1, np.diff(edges)))


def _formants(stretches: list[_Stretch], index: Index, who: Speaker) -> Array:
    """Three formants in Hz, gliding from target to target; a part without targets uses its neighbours'."""
    targets = np.full((len(stretches), 3), np.nan)
    for row, stretch in enumerate(stretches):
        if stretch.piece.formants is not None:
            first, second = who.accent.get(stretch.phone.rstrip("01"), (1.0, 1.0))
            targets[row] = np.array(stretch.piece.formants) * who.tract * np.array([first, second, 1.0])
    known = np.flatnonzero(~np.isnan(targets[:, 0]))
    filled = [np.interp(np.arange(len(stretches)), known, targets[known, k])[index] for k in range(3)]
    return np.stack([_smooth(track, 4.0) for track in filled], axis=1)


def _within_clause(stretches: list[_Stretch], index: Index) -> Array:
    """How far into its clause each frame is, 0..1."""
    clause = np.array([stretch.clause for stretch in stretches])[index]
    out = np.empty(len(index))
    for number in range(int(clause[-1]) + 1):
        inside = clause == number
        out[inside] = np.linspace(0.0, 1.0, int(inside.sum()))
    return out


def _melody(
    voiced: Flags,
    position: Array,
    within: Array,
    accent: Array,
    who: Speaker,
    wanted: Array,
    chance: np.random.Generator,
) -> Array:
    """Semitones from the speaker's mean: a line with the wanted level and fall, accents with the wanted spread."""
    wander = _smooth(chance.normal(0.0, 1.0, len(position)), 30.0)
    shape = 1.6 * accent - 0.9 * within + 0.5 * wander / max(1e-9, float(wander.std()))
    slope, height = np.polyfit(position[voiced], shape[voiced], 1)
    shape = shape - slope * position - height
    shape = np.clip(shape / max(1e-9, float(shape[voiced].std())), -2.8, 2.8)
    line = float(wanted[0]) + (who.fall + float(wanted[2])) * (position - float(position[voiced].mean()))
    tremor = (
        0.22
        * max(0.0, float(wanted[6]))
        * np.sin(2 * np.pi * (5.6 * np.arange(len(position)) / FRAMES_PER_SECOND + chance.random()))
    )
    flutter = 0.12 * _smooth(chance.normal(0.0, 1.0, len(position)), 2.0)
    return np.asarray(line + who.spread * 2 ** float(wanted[1]) * shape + tremor + flutter)


def _melody_cues(semitones: Array, voiced: Flags, position: Array, who: Speaker) -> Array:
    """Pitch, range and contour measured over voiced frames."""
    slope, height = np.polyfit(position[voiced], semitones[voiced], 1)
    spread = float((semitones[voiced] - slope * position[voiced] - height).std())
    return np.array([float(semitones[voiced].mean()), np.log2(spread / who.spread), float(slope) - who.fall])


def _smooth(track: Array, frames: float) -> Array:
    """A track smoothed by a Gaussian of that standard deviation, with its ends held."""
    reach = int(3 * frames) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / frames) ** 2)
    return np.convolve(np.pad(track, reach, mode="edge"), kernel / kernel.sum(), mode="valid")

"""The simulated speakers: each with a pitch, tract length, rate, voice and habits, the same in every corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alm_proxies.seeds import generator
from alm_proxies.stages.simulate.cues import CUES, Array
from alm_proxies.stages.simulate.phones import VOWELS


@dataclass(frozen=True, slots=True)
class Speaker:
    """A person's norm (what the cues are relative to), tract and habits."""

    name: str
    gender: str
    pitch: float
    """Mean pitch in Hz."""
    spread: float
    """Standard deviation of the pitch around its line, in semitones."""
    fall: float
    """Usual change of pitch from start to end, in semitones."""
    level: float
    """dB relative to full scale, over spoken sound."""
    rate: float
    """Syllables per second of speech without pauses."""
    tilt: float
    """Slope of the spectrum above 500 Hz in dB per octave, on top of the glottal pulse's own."""
    jitter: float
    """Standard deviation of a period's length, as a share of it."""
    breath: float
    """Noise of breath in dB relative to the pulses."""
    tract: float
    """Factor on the formants of an adult male tract of 17.5 cm."""
    accent: dict[str, tuple[float, float]]
    """Own factors on the first and second formant of each vowel."""
    open_quotient: float
    pause: float
    """Usual pause between clauses in seconds."""
    creak: float
    """How much the voice creaks at the end of an utterance, 0..1."""
    expressiveness: float
    manner: Array
    """How much this person uses each cue to express emotion; 1 is usual."""
    floor: float
    """Noise of the recording in dB relative to full scale."""


def speaker(index: int, *, crowd: int = 0, corpus: str = "sim") -> Speaker:
    """Speaker number `index`: even numbers are women, odd ones men; other crowds have other speakers."""
    chance = generator(crowd, "speaker", index)
    female = index % 2 == 0
    middle, lowest, highest = (205.0, 162.0, 258.0) if female else (117.0, 87.0, 158.0)
    pitch = float(np.clip(middle * 2 ** chance.normal(0, 0.17), lowest, highest))
    other = "" if crowd == 0 else f"c{crowd}"
    return Speaker(
        name=f"{corpus}/{other}s{index + 1:03d}",
        gender="female" if female else "male",
        pitch=pitch,
        spread=float(chance.uniform(1.7, 2.9)),
        fall=float(chance.normal(-3.5, 1.0)),
        level=float(chance.normal(-27.5, 1.5)),
        rate=float(chance.uniform(4.1, 5.5)),
        tilt=float(chance.normal(-3.0 if female else -2.4, 0.6)),
        jitter=float(0.006 * 2 ** chance.normal(0, 0.35)),
        breath=float(chance.normal(-25.0 if female else -28.0, 2.0)),
        tract=float(np.clip(chance.normal(1.16 if female else 1.0, 0.04), 0.92, 1.26)),
        accent={
            vowel: (float(1 + 0.05 * chance.normal()), float(1 + 0.04 * chance.normal())) for vowel in sorted(VOWELS)
        },
        open_quotient=float(chance.uniform(0.58, 0.72) if female else chance.uniform(0.48, 0.64)),
        pause=float(chance.uniform(0.12, 0.34)),
        creak=float(np.clip(chance.normal(0.15, 0.35), 0.0, 1.0)),
        expressiveness=float(np.exp(chance.normal(0, 0.15))),
        manner=np.exp(chance.normal(0, 0.25, len(CUES))),
        floor=float(chance.uniform(-80.0, -66.0)),
    )

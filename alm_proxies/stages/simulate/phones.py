"""The phones of the synthesiser: formant targets for a male vocal tract, durations and noise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a phone with constant targets; the voice glides from one part to the next."""

    milliseconds: float
    formants: tuple[float, float, float] | None
    voicing: float
    aspiration: float = 0.0
    frication: float = 0.0
    noise_centre: float = 4000.0
    noise_width: float = 2000.0
    nasal: float = 0.0
    elastic: float = 1.0


VOWELS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "iy": ((280, 2250, 2900),),
    "ih": ((400, 1920, 2560),),
    "eh": ((550, 1770, 2490),),
    "ae": ((690, 1660, 2490),),
    "aa": ((710, 1100, 2540),),
    "ao": ((590, 880, 2540),),
    "uh": ((450, 1030, 2380),),
    "uw": ((310, 900, 2250),),
    "ah": ((620, 1220, 2550),),
    "ax": ((500, 1450, 2500),),
    "er": ((480, 1330, 1690),),
    "ey": ((490, 1950, 2520), (340, 2180, 2650)),
    "ay": ((710, 1220, 2500), (390, 1980, 2560)),
    "ow": ((530, 980, 2430), (380, 850, 2350)),
    "aw": ((720, 1280, 2500), (430, 960, 2380)),
    "oy": ((540, 880, 2450), (390, 1920, 2520)),
}
"""First three formants in Hz; two targets make a diphthong."""

VOWEL_MILLISECONDS = {"stressed": 118.0, "plain": 78.0, "reduced": 52.0}

_LABIAL, _DENTAL, _ALVEOLAR, _PALATAL, _VELAR = (
    (330.0, 900.0, 2250.0),
    (340.0, 1300.0, 2450.0),
    (310.0, 1720.0, 2620.0),
    (300.0, 1950.0, 2500.0),
    (300.0, 2000.0, 2300.0),
)


def _stop(place: tuple[float, float, float], voiced: bool, centre: float, width: float) -> tuple[Piece, ...]:
    closure = Piece(48 if voiced else 58, place, 0.10 if voiced else 0.0, elastic=0.7)
    burst = Piece(9, place, 0.05, 0.05, 0.55, centre, width, elastic=0.2)
    release = Piece(8 if voiced else 26, place, 0.35 if voiced else 0.0, 0.2 if voiced else 0.6, 0.05, centre, width)
    return (closure, burst, release)


def _fricative(
    place: tuple[float, float, float], voicing: float, level: float, centre: float, width: float, length: float
) -> tuple[Piece, ...]:
    return (Piece(length, place, voicing, 0.02, level, centre, width),)


def _nasal(place: tuple[float, float, float]) -> tuple[Piece, ...]:
    return (Piece(58, (270.0, place[1], place[2]), 0.55, nasal=1.0),)


CONSONANTS: dict[str, tuple[Piece, ...]] = {
    "p": _stop(_LABIAL, False, 1200, 1800),
    "b": _stop(_LABIAL, True, 1000, 1600),
    "t": _stop(_ALVEOLAR, False, 4600, 2400),
    "d": _stop(_ALVEOLAR, True, 4200, 2400),
    "k": _stop(_VELAR, False, 2200, 1100),
    "g": _stop(_VELAR, True, 2000, 1100),
    "f": _fricative(_LABIAL, 0.0, 0.10, 5200, 5000, 84),
    "v": _fricative(_LABIAL, 0.45, 0.05, 5200, 5000, 55),
    "th": _fricative(_DENTAL, 0.0, 0.09, 5600, 4500, 78),
    "dh": _fricative(_DENTAL, 0.50, 0.03, 5600, 4500, 42),
    "s": _fricative(_ALVEOLAR, 0.0, 0.50, 5600, 1500, 92),
    "z": _fricative(_ALVEOLAR, 0.32, 0.30, 5600, 1500, 66),
    "sh": _fricative(_PALATAL, 0.0, 0.55, 3100, 1400, 96),
    "hh": (Piece(52, None, 0.08, 0.75),),
    "ch": (
        Piece(46, _PALATAL, 0.0, elastic=0.7),
        Piece(9, _PALATAL, 0.0, 0.05, 0.60, 3600, 1800, elastic=0.2),
        Piece(48, _PALATAL, 0.0, 0.05, 0.50, 3200, 1500),
    ),
    "jh": (
        Piece(42, _PALATAL, 0.10, elastic=0.7),
        Piece(9, _PALATAL, 0.05, 0.05, 0.45, 3400, 1800, elastic=0.2),
        Piece(34, _PALATAL, 0.30, 0.03, 0.30, 3100, 1500),
    ),
    "m": _nasal((270.0, 1000.0, 2200.0)),
    "n": _nasal((270.0, 1500.0, 2550.0)),
    "ng": _nasal((270.0, 1950.0, 2450.0)),
    "w": (Piece(54, (300.0, 680.0, 2200.0), 0.70),),
    "y": (Piece(48, (270.0, 2180.0, 2900.0), 0.72),),
    "r": (Piece(56, (350.0, 1150.0, 1520.0), 0.72),),
    "l": (Piece(56, (350.0, 1050.0, 2750.0), 0.66),),
}


def pieces_of(phone: str) -> tuple[Piece, ...]:
    """The pieces of a phone; a vowel carries its stress as a last digit: 1 stressed, 0 plain (`ax`, `er0` reduced)."""
    if phone in CONSONANTS:
        return CONSONANTS[phone]
    name = phone.rstrip("01")
    targets = VOWELS[name]
    kind = "stressed" if phone.endswith("1") else "reduced" if name in ("ax", "er") else "plain"
    length = VOWEL_MILLISECONDS[kind] * (1.2 if len(targets) > 1 else 1.0)
    level = 1.0 if kind == "stressed" else 0.85 if kind == "plain" else 0.7
    shares = (1.0,) if len(targets) == 1 else (0.55, 0.45)
    return tuple(Piece(length * share, target, level) for share, target in zip(shares, targets, strict=True))


def is_vowel(phone: str) -> bool:
    """Whether a phone is the nucleus of a syllable."""
    return phone.rstrip("01") in VOWELS

"""A simulated crowd that judges prosody: the answers of each listener, and the crowd's mean, which is the truth.

Listener l hears cues x, in audible steps from the speaker's norm, as

    u_c = 2.5 tanh(a_lc (x_c + s_lc) / 2.5)                weighed and shifted by the listener, compressed q_k = sum_c
    w_c (u_c - m_lkc)^2                        squared distance to the listener's picture m_lk of label k e_k = b_lk -
    g_l log(1 + q_k / 2) + i_k(u)             heavy tails: beyond some distance, more distance changes little p_l(k) =
    (1 - r_l) sum_j C_l[j, k] exp(e_j) / Z + r_l h_l(k)

where i(u) couples cues: .35 s(a) s(b), s(a) = log(1 + e^2a) / 2, for angry (loud, rough), disgust (low, rough), fear
(high, breathy), happy (wide, smooth) and sad (quiet, slow), and .5 a b for angry (energy, roughness), disgust (-pitch,
tilt), fear (-pitch, energy), happy (contour, range) and sad (-rate, breathiness); neutral gains where no cue is strong.
C_l holds the listener's own confusions, and r_l is the share of answers that have nothing to do with the sound. The
truth is the mean of p_l over the whole crowd. It is not a Dirichlet, a mixture of a few classes or a softmax of
anything linear, so it is in the model family of no fusion method.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from alm_proxies.seeds import generator
from alm_proxies.stages.simulate.cues import CUES, EXPRESSIONS, LABELS, STEPS, Array
from alm_proxies.taxonomy import anchors

LISTENERS = 80
_AT_ONCE = 256
_ANGRY, _DISGUST, _FEAR, _HAPPY, _NEUTRAL, _SAD = range(len(LABELS))

# Fitted by benchmarks/simulate/calibration.py --fit so that crowd 0 answers as the voice-only raters of CREMA-D do.
_LEAN = (0.11, 0.08, 0.23, -0.87, 1.14, -0.68)
_SHARPNESS = 3.55
_GUESSING = 0.027

_SALIENCE = np.array([1.0, 0.8, 0.6, 1.2, 0.8, 0.8, 1.1, 1.0])
_PAIRS = (
    (_ANGRY, _DISGUST),
    (_DISGUST, _ANGRY),
    (_DISGUST, _NEUTRAL),
    (_DISGUST, _SAD),
    (_FEAR, _SAD),
    (_FEAR, _HAPPY),
    (_FEAR, _ANGRY),
    (_HAPPY, _NEUTRAL),
    (_HAPPY, _FEAR),
    (_SAD, _NEUTRAL),
    (_SAD, _FEAR),
    (_NEUTRAL, _SAD),
    (_NEUTRAL, _DISGUST),
)

# How far one step of each cue moves the logit of valence, arousal and dominance, beyond the effect of the label.
_FELT = np.array(
    [
        [0.06, 0.16, 0.12, 0.02, 0.06, 0.06, -0.18, -0.02],
        [0.28, 0.14, 0.02, 0.42, 0.26, 0.26, 0.10, -0.10],
        [-0.16, 0.04, -0.14, 0.34, 0.02, 0.22, 0.06, -0.22],
    ]
)
_RATING_STRENGTH = 14.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """The parameters of the listeners of a crowd, one row per listener."""

    names: tuple[str, ...]
    attention: Array
    shift: Array
    pictures: Array
    sharpness: Array
    lean: Array
    confusion: Array
    guess: Array
    guessing: Array
    ticking: Array
    rating_shift: Array


@dataclass(frozen=True, slots=True)
class Rating:
    """Mean and standard deviation of valence, arousal and dominance, utterances x 3."""

    mean: Array
    spread: Array


@lru_cache(maxsize=8)
def crowd_of(number: int) -> Crowd:
    """Crowd 0 is calibrated; any other number is a crowd with other prototypes, confusions and biases."""
    chance = generator(number, "crowd")
    people, labels, cues = LISTENERS, len(LABELS), len(CUES)
    pictures = 0.9 * EXPRESSIONS
    lean = np.array(_LEAN)
    sharpness, guessing = _SHARPNESS, _GUESSING
    if number:
        pictures = pictures * chance.uniform(0.7, 1.2) + chance.normal(0.0, 0.3, pictures.shape)
        pictures[_NEUTRAL] *= 0.5
        lean = lean + chance.normal(0.0, 0.5, labels)
        sharpness, guessing = sharpness * chance.uniform(0.7, 1.3), guessing * chance.uniform(0.5, 2.0)
    return Crowd(
        names=tuple(f"{'' if number == 0 else f'c{number}'}r{person + 1:02d}" for person in range(people)),
        attention=np.exp(chance.normal(0.0, 0.35, (people, cues))),
        shift=chance.normal(0.0, 0.3, (people, cues)),
        pictures=pictures + chance.normal(0.0, 0.2, (people, labels, cues)),
        sharpness=sharpness * np.exp(chance.normal(0.0, 0.25, people)),
        lean=lean + chance.normal(0.0, 0.4, (people, labels)),
        confusion=np.stack([_confusion(chance) for _ in range(people)]),
        guess=chance.dirichlet(np.full(labels, 2.0), people),
        guessing=np.minimum(0.6, guessing * chance.gamma(1.5, 1 / 1.5, people)),
        ticking=chance.uniform(0.0, 1.6, people),
        rating_shift=chance.normal(0.0, 0.35, (people, 3)),
    )


def true_distribution(parameters: Array, crowd: int = 0) -> Array:
    """The crowd's expected label distribution for cues in their own units (rows x CUES): the mean over listeners."""
    parts = [answers(rows, crowd).mean(axis=1) for rows in _in_parts(parameters)]
    return np.concatenate(parts) if parts else np.zeros((0, len(LABELS)))


def true_rating(parameters: Array, crowd: int = 0) -> Rating:
    """Mean and spread of the ratings the crowd would give for cues in their own units (rows x CUES)."""
    means, spreads = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for rows in _in_parts(parameters):
        share = answers(rows, crowd)[..., None] / LISTENERS
        centre = rating_centres(rows, crowd)
        mean = (share * centre).sum(axis=(1, 2))
        second = (share * (centre**2 + centre * (1 - centre) / (_RATING_STRENGTH + 1))).sum(axis=(1, 2))
        means.append(mean)
        spreads.append(np.sqrt(np.maximum(second - mean**2, 0.0)))
    return Rating(np.concatenate(means), np.concatenate(spreads))


def answers(parameters: Array, crowd: int = 0) -> Array:
    """The label distribution of every listener, rows x listeners x labels."""
    people = crowd_of(crowd)
    steps = np.asarray(parameters, dtype=np.float64) / STEPS
    heard = 2.5 * np.tanh(people.attention * (steps[:, None, :] + people.shift) / 2.5)
    apart = heard[:, :, None, :] - people.pictures
    distance = (apart**2 * _SALIENCE).sum(axis=-1)
    evidence = people.lean - people.sharpness[:, None] * np.log1p(distance / 2) + _coupling(heard)
    evidence -= evidence.max(axis=-1, keepdims=True)
    share = np.exp(evidence)
    share /= share.sum(axis=-1, keepdims=True)
    confused = (share[..., :, None] * people.confusion).sum(axis=-2)
    guessing = people.guessing[:, None]
    return np.asarray((1 - guessing) * confused + guessing * people.guess)


def rating_centres(parameters: Array, crowd: int = 0) -> Array:
    """The mean rating of every listener after each label: rows x listeners x labels x 3."""
    people = crowd_of(crowd)
    steps = np.tanh(np.asarray(parameters, dtype=np.float64) / STEPS / 2.5) * 2.5
    anchor = anchors(LABELS)
    base = 0.7 * np.log(anchor / (1 - anchor))
    felt = (steps[:, None, :] * _FELT).sum(axis=-1)
    return np.asarray(1 / (1 + np.exp(-(base + felt[:, None, None, :] + people.rating_shift[:, None, :]))))


def rate(centre: Array, chance: np.random.Generator) -> Array:
    """Ratings around their centres on a slider with 101 places: Beta(s c, s (1 - c)), s = 14."""
    return np.round(chance.beta(_RATING_STRENGTH * centre, _RATING_STRENGTH * (1 - centre)), 2)


def _coupling(heard: Array) -> Array:
    """The interaction terms i(u) of the cues, rows x listeners x labels."""
    pitch, spread, contour, energy, pace, tilt, rough, breath = np.moveaxis(heard, -1, 0)

    def up(cue: Array) -> Array:
        return np.asarray(np.logaddexp(0.0, 2 * cue) / 2)

    out = np.empty((*heard.shape[:-1], len(LABELS)))
    out[..., _ANGRY] = 0.35 * up(energy) * up(rough) + 0.5 * energy * rough
    out[..., _DISGUST] = 0.35 * up(-pitch) * up(rough) - 0.5 * pitch * tilt
    out[..., _FEAR] = 0.35 * up(pitch) * up(breath) - 0.5 * pitch * energy
    out[..., _HAPPY] = 0.35 * up(spread) * up(-rough) + 0.5 * contour * spread
    out[..., _SAD] = 0.35 * up(-energy) * up(-pace) - 0.5 * pace * breath
    out[..., _NEUTRAL] = 1.05 / (1.0 + (heard**2 * _SALIENCE).sum(axis=-1) / 4)
    return out


def _confusion(chance: np.random.Generator) -> Array:
    """The confusion matrix of a listener, with two or three of the usual confusions."""
    confusion = np.eye(len(LABELS))
    for pair in chance.choice(len(_PAIRS), size=int(chance.integers(2, 4)), replace=False):
        heard, answered = _PAIRS[int(pair)]
        moved = float(chance.uniform(0.05, 0.30))
        confusion[heard, heard] -= moved
        confusion[heard, answered] += moved
    return confusion


def _in_parts(parameters: Array) -> list[Array]:
    rows = np.atleast_2d(np.asarray(parameters, dtype=np.float64))
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]

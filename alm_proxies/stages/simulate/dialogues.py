"""The plan of a simulated corpus: dialogues, speakers, words and emotions, before any sound is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alm_proxies.seeds import generator
from alm_proxies.stages.simulate.cues import CUES, EXPRESSIONS, LABELS, STEPS, Array
from alm_proxies.stages.simulate.speakers import Speaker
from alm_proxies.stages.simulate.words import Clauses, clauses_for

SPLITS = {"train": 0.6, "development": 0.2, "test": 0.2}
_INTENDED = np.array([0.17, 0.17, 0.17, 0.15, 0.17, 0.17])
_STRENGTH = (1.0, 0.45)
_NOISE = 0.5
_FARTHEST = 2.6


@dataclass(frozen=True, slots=True)
class Turn:
    """One planned utterance: speaker, dialogue, turn, intended blend, wanted cues and words."""

    number: int
    speaker: int
    split: str
    dialogue: int
    turn: int
    intended: str
    blend: Array
    wanted: Array
    clauses: Clauses


def turns_of(utterances: int, speakers: list[Speaker], *, seed: int, crowd: int = 0) -> list[Turn]:
    """The turns of a corpus: dialogues of two people of one split, moods that last, splits without a common speaker."""
    chance = generator(seed, "dialogues", crowd)
    pools = split_speakers(len(speakers), chance)
    expressions = expressions_of(crowd)
    waiting: dict[str, list[int]] = {split: [] for split in SPLITS}
    filled = dict.fromkeys(SPLITS, 0)
    out: list[Turn] = []
    dialogue = 0
    while len(out) < utterances:
        dialogue += 1
        split = min(SPLITS, key=lambda name: filled[name] / SPLITS[name])
        pair = [_next(waiting[split], pools[split], chance) for _ in range(2)]
        length = min(int(chance.integers(6, 13)), max(2, utterances // 6), utterances - len(out))
        moods: dict[int, Array] = {}
        for place in range(length):
            who = pair[place % 2]
            turn_chance = generator(seed, "turn", crowd, len(out) + 1)
            blend, strength = _mood(moods.get(who), turn_chance)
            moods[who] = blend
            wanted = _wanted(blend, strength, speakers[who], expressions, turn_chance)
            named = dict(zip(LABELS, (float(share) for share in blend), strict=True))
            out.append(
                Turn(
                    number=len(out) + 1,
                    speaker=who,
                    split=split,
                    dialogue=dialogue,
                    turn=place + 1,
                    intended=LABELS[int(blend.argmax())],
                    blend=blend,
                    wanted=wanted,
                    clauses=clauses_for(_syllables(speakers[who], turn_chance), named, turn_chance),
                )
            )
        filled[split] += length
    return out


def split_speakers(count: int, chance: np.random.Generator) -> dict[str, list[int]]:
    """Speakers by split, women and men in equal shares; every split has two or more."""
    pools: dict[str, list[int]] = {split: [] for split in SPLITS}
    for parity in (0, 1):
        people = [int(person) for person in chance.permutation(np.arange(parity, count, 2))]
        for person in people:
            split = min(SPLITS, key=lambda name: (len([p for p in pools[name] if p % 2 == parity])) / SPLITS[name])
            pools[split].append(person)
    return pools


def expressions_of(crowd: int) -> Array:
    """How emotions are expressed: as in EXPRESSIONS by the speakers of crowd 0, otherwise by the speakers of other
    crowds.
    """
    if crowd == 0:
        return EXPRESSIONS
    chance = generator(crowd, "expressions")
    other = EXPRESSIONS * chance.uniform(0.7, 1.3) + chance.normal(0.0, 0.3, EXPRESSIONS.shape)
    other[LABELS.index("neutral")] = 0.0
    return np.asarray(other)


def _mood(before: Array | None, chance: np.random.Generator) -> tuple[Array, float]:
    """A blend of one or two emotions and its strength; it often includes the speaker's previous emotion."""
    blend = np.zeros(len(LABELS))
    blend[int(chance.choice(len(LABELS), p=_INTENDED))] = 1.0
    if chance.random() < 0.45:
        share = float(chance.uniform(0.2, 0.5))
        blend *= 1 - share
        blend[int(chance.choice(len(LABELS), p=_INTENDED))] += share
    if before is not None and chance.random() < 0.3:
        blend = 0.5 * blend + 0.5 * before
    middle, spread = _STRENGTH
    return blend, float(np.clip(chance.normal(middle, spread), 0.1, 1.6))


def _wanted(blend: Array, strength: float, who: Speaker, expressions: Array, chance: np.random.Generator) -> Array:
    """Cues of a blend: expressions by share, times strength and the speaker's manner, plus noise."""
    meant = (blend[:, None] * expressions).sum(axis=0) * strength * who.expressiveness * who.manner
    steps = meant + chance.normal(0.0, _NOISE, len(CUES))
    return np.asarray(_FARTHEST * np.tanh(steps / _FARTHEST) * STEPS)


def _syllables(who: Speaker, chance: np.random.Generator) -> float:
    """Syllables for a log-normal duration of about two to six seconds at the speaker's rate."""
    seconds = float(np.clip(np.exp(chance.normal(np.log(3.5), 0.30)), 1.6, 7.5))
    return max(4.0, (seconds - 0.35) * who.rate * 0.93)


def _next(waiting: list[int], pool: list[int], chance: np.random.Generator) -> int:
    """The next speaker of a split; every speaker has a turn before one repeats, and no dialogue has a speaker twice."""
    if not waiting:
        waiting.extend(int(person) for person in chance.permutation(pool))
    return waiting.pop()

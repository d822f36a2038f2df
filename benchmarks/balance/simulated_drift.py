"""Which effects change what simulated listeners hear: python benchmarks/balance/simulated_drift.py

The truth of a simulated utterance is a known function of eight cues of the voice, relative to the speaker. Gain moves
energy, pitch moves pitch, speed moves the rate, each by a known amount; the truth of the changed clip follows, and its
Jensen-Shannon divergence to the clip's own truth is exact. Every other effect leaves the cues alone: by construction
the truth does not move, and the simulator has nothing to say of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies.audio.strength import effect_at
from alm_proxies.measures.divergence import jsd_nats
from alm_proxies.seeds import generator
from alm_proxies.stages.simulate.cues import CUES
from alm_proxies.stages.simulate.dialogues import turns_of
from alm_proxies.stages.simulate.listeners import true_distribution
from alm_proxies.stages.simulate.speakers import speaker

STRENGTHS = (0.1, 0.25, 0.5, 1.0)
MOVES: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "gain": ("energy", lambda given: float(given["decibels"])),
    "pitch": ("pitch", lambda given: float(given["semitones"])),
    "speed": ("rate", lambda given: float(np.log2(given["factor"]))),
}


def moved(cues: NDArray[np.float64], effects: list[tuple[str, dict[str, Any]]]) -> NDArray[np.float64]:
    """The cues after one effect each."""
    after = cues.copy()
    for row, (name, given) in enumerate(effects):
        cue, by = MOVES[name]
        after[row, CUES.index(cue)] += by(given)
    return after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=4_000)
    parser.add_argument("--crowds", type=int, nargs="+", default=[0, 1, 2])
    sizes = parser.parse_args()
    people = [speaker(index) for index in range(60)]
    cues = np.array([turn.wanted for turn in turns_of(sizes.utterances, people, seed=100)], dtype=np.float64)
    for crowd in sizes.crowds:
        truth = true_distribution(cues, crowd)
        votes = generator(crowd, "two samples").multinomial(10, truth, size=(2, len(truth))) / 10
        sampled = float(np.median(jsd_nats(votes[0], votes[1])))
        others = jsd_nats(truth, truth[generator(0, "others").permutation(len(truth))])
        print(
            f"crowd {crowd}: two clips by chance {np.median(others):.4f} nats, two samples of ten votes {sampled:.4f}"
        )
        for effect in MOVES:
            cells = []
            for strength in STRENGTHS:
                chosen = [effect_at(effect, strength, generator(0, effect, row)) for row in range(len(cues))]
                after = true_distribution(moved(cues, chosen), crowd)
                d = jsd_nats(truth, after)
                turned = float((after.argmax(1) != truth.argmax(1)).mean())
                cells.append(
                    f"{strength}: median {np.median(d):.4f}, mean {d.mean():.4f}, top label changed {turned:.3f}"
                )
            print(f"{effect:6}" + "; ".join(cells), flush=True)


if __name__ == "__main__":
    main()

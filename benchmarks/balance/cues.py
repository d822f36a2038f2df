"""Which effects change cues that people's votes follow: python benchmarks/balance/cues.py DATA

The drift check's listener has about 60 features, and many of them hold the level, so that it hardly reacts to any one.
This listener has eight cues, like the simulator's crowd, each relative to the actor's mean: a head on CREMA-D's voice
votes, in folds of actors. Printed: how well single cues predict the votes, and how far every effect, rendered and
measured, moves the listener.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from crema_d import LABELS, STRENGTHS, corpus
from numpy.typing import NDArray

from alm_proxies.audio.effects import EFFECTS
from alm_proxies.audio.measured import DIGEST, NAMES, measuring
from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.strength import effect_at
from alm_proxies.audio.vectors import vectors_of
from alm_proxies.seeds import generator
from alm_proxies.stages.balance.drift import WIDTH, Drift, drift_check, heard_after, rejected

CUES = (
    "pitch_level", "pitch_sd", "pitch_slope", "energy_level", "articulation_rate", "spectral_tilt", "shimmer",
    "harmonicity",
)  # fmt: skip
COLUMNS = [NAMES.index(name) for name in CUES]
VOICE = ("spectral_tilt", "shimmer", "harmonicity")
HEARD = {"eight cues": COLUMNS, "without voice quality": [NAMES.index(name) for name in CUES if name not in VOICE]}
"""The simulated listeners that judge the effects."""


def log_loss(drift: Drift, targets: NDArray[np.float64]) -> float:
    """Cross-entropy of the shares of votes under the out-of-fold predictions, in nats."""
    return float(-(targets * np.log(np.maximum(drift.shares, 1e-12))).sum(1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=2_000)
    parser.add_argument("--changed", type=int, default=150)
    parser.add_argument("--features", type=Path, default=Path(tempfile.gettempdir()) / "alm-proxies-balance-features")
    sizes = parser.parse_args()
    labels, utterances = corpus(sizes.data, sizes.clips)
    ids = labels.frame["utterance_id"].to_list()
    sounds = Sounds(utterances, stage="balance")
    vectors = vectors_of(ids, sounds, measuring("balance"), width=WIDTH, digest=DIGEST, folder=sizes.features)
    targets = labels.distributions()
    speakers = labels.frame.join(utterances.frame, on="utterance_id", maintain_order="left")["speaker"].to_list()
    centre = np.zeros_like(vectors.rows)
    for speaker in sorted(set(speakers)):
        own = np.array([name == speaker for name in speakers])
        centre[own] = np.nanmean(vectors.rows[own], axis=0)
    relative = vectors.rows - centre

    level = relative[:, NAMES.index("energy_level")]
    print(f"level: standard deviation within an actor {np.nanstd(level):.1f} dB; correlation with the share of")
    print(", ".join(f"{name} {np.corrcoef(level, targets[:, k])[0, 1]:+.2f}" for k, name in enumerate(LABELS.values())))
    prior = targets.mean(0)
    print(f"log loss, class shares {-(targets * np.log(prior)).sum(1).mean():.4f}", flush=True)
    without = [column for column in COLUMNS if NAMES[column] != "energy_level"]
    chosen = {"eight cues": COLUMNS, "without level": without}
    chosen |= {f"{name} alone": [NAMES.index(name)] for name in ("energy_level", "pitch_level", "articulation_rate")}
    for name, columns in chosen.items():
        check = drift_check(relative[:, columns], vectors.known, targets, speakers, seed=0)
        print(f"log loss, {name} {log_loss(check, targets):.4f}", flush=True)

    checks = {name: drift_check(relative[:, columns], vectors.known, targets, speakers, seed=0)
              for name, columns in HEARD.items()}  # fmt: skip
    fold = checks["eight cues"].fold
    rows = np.sort(generator(0, "changed").permutation(np.flatnonzero(fold >= 0))[: sizes.changed]).tolist()
    for name, check in checks.items():
        print(f"threshold, {name} {check.threshold:.4f} nats", flush=True)
    for effect in EFFECTS:
        for strength in STRENGTHS:
            effects = [effect_at(effect, strength, generator(0, effect, ids[row])) for row in rows]
            heard = list(heard_after([ids[row] for row in rows], sounds, effects, seed=0))
            for name, columns in HEARD.items():
                after = [
                    None if features is None else (features - centre[row])[columns]
                    for row, features in zip(rows, heard, strict=True)
                ]
                d = rejected(checks[name], rows, after)
                above = np.mean(d > checks[name].threshold)
                print(f"{effect} {strength}, {name}: median {np.median(d):.4f}, above {above:.2f}", flush=True)


if __name__ == "__main__":
    main()

"""Proxies scored against a target that holds their own votes: it favours them, however bad they are.

CREMA-D: five voice votes of each clip are the human votes. Ten draws from other votes stand in for a proxy: from those
of the clip's audio-visual raters, of its face-only raters, and of face-only raters of another clip, which say nothing.
Printed: mean JSD (base 2) of the shares of the ten draws to those of the five human votes, and to those of all fifteen.

    ALM_PROXIES_TEST_DATA=... python benchmarks/fusion/target_with_proxies.py
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from crema_votes import Corpus, jsd

from alm_proxies.seeds import generator

HUMAN, PROXY = 5, 10


def main() -> None:
    corpus = Corpus(Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d" / "tabulatedVotes.csv")
    enough = (corpus.voice.sum(1) >= HUMAN) & (corpus.audio_visual.sum(1) > 0) & (corpus.face.sum(1) > 0)
    rng = generator(0, "target with proxies")
    human = np.stack([rng.multivariate_hypergeometric(row, HUMAN) for row in corpus.voice[enough].astype(np.int64)])
    face = corpus.face[enough]
    sources = {
        "audio-visual": corpus.audio_visual[enough],
        "face": face,
        "face of other clips": face[rng.permutation(len(face))],
    }
    print("| proxy | to five human votes | to five human and its own ten votes |\n|---|---|---|")
    for name, counts in sources.items():
        votes = rng.multinomial(PROXY, counts / counts.sum(1, keepdims=True))
        to_human, to_both = (jsd(votes / PROXY, target).mean() for target in (human, human + votes))
        print(f"| {name} | {to_human:.3f} | {to_both:.3f} |")
    print(f"{len(human):,} clips")


if __name__ == "__main__":
    main()

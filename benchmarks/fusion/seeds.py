"""How much of a label is the seed: classes start at random, so `gated` ends in one of several maxima.

CREMA-D as in real_votes.py: three voice votes a clip, with audio-visual raters as proxies or without, four others held
out; a sample of 1,000 clips and all. Printed: NLL of the held-out votes under the seeds, and with the labels of the
taxonomy reversed under seed 0, which draws the same numbers for other labels.

    ALM_PROXIES_TEST_DATA=... python benchmarks/fusion/seeds.py [--seeds 6]
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from crema_votes import Corpus, losses

from alm_proxies.estimators.counts import Array, Counts
from alm_proxies.estimators.estimator import NotConvergedWarning, one_thread
from alm_proxies.estimators.gated import Gated
from alm_proxies.seeds import generator

SIZE = 1000


def loss(counts: Counts, held: Array, seed: int) -> float:
    """The log loss of the held-out votes under the labels of one seed."""
    fit = Gated(seed=seed).fit(counts)
    with one_thread():
        return losses(fit.posterior(fit.aligned(counts)).mean, held)[0].mean


def reversed_labels(counts: Counts) -> Counts:
    """The same votes with the labels in the other order."""
    blocks = tuple(replace(block, counts=block.counts[:, ::-1]) for block in counts.blocks)
    return replace(counts, labels=counts.labels[::-1], human=counts.human[:, ::-1], blocks=blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    seeds = range(parser.parse_args().seeds)
    warnings.simplefilter("ignore", NotConvergedWarning)
    corpus = Corpus(Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d" / "tabulatedVotes.csv")
    kept, held = corpus.split(0, 3)
    sample = np.sort(generator(0, "seeds").choice(len(held), SIZE, replace=False))
    print("| clips | proxies | NLL by seed | most less least | labels reversed less seed 0 |\n|---|---|---|---|---|")
    for rows in (sample, np.arange(len(held))):
        for name, proxies in (("none", {}), ("audio-visual", {"audio-visual": corpus.audio_visual})):
            counts = corpus.counts(kept[3], proxies).rows(rows)
            by_seed = [loss(counts, held[rows], seed) for seed in seeds]
            turned = loss(reversed_labels(counts), held[rows][:, ::-1], 0) - by_seed[0]
            shown = ", ".join(f"{value:.4f}" for value in by_seed)
            print(f"| {len(rows):,} | {name} | {shown} | {np.ptp(by_seed):.4f} | {turned:+.4f} |", flush=True)


if __name__ == "__main__":
    main()

"""What a second round lets through: nested and un-nested rounds, and the exchange test.

CREMA-D, k voice votes a clip, four others held out. Fusion here is `gated` with fixed settings, so that all differences
are the listener's. Printed for each size: log loss a held-out vote of human votes alone, of the labels fused with round
1, with the nested round 2 and with an un-nested round 2 (trained on labels that were fused with its own first round,
all folds at once: a warning, not a part of the product); and the exchange gaps of the three listeners (own fitted votes
predicted better than held-out ones, nats a vote, interval over actors). Every draw is kept in a folder as soon as it is
done; a run that was stopped goes on.

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/listen/nested.py --recipe encoder --model FOLDER --keep FOLDER
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from crema_d import Listening, Recordings, log_loss

from alm_proxies.estimators.blocks import Block
from alm_proxies.estimators.counts import Array, Counts
from alm_proxies.estimators.estimator import NotConvergedWarning
from alm_proxies.estimators.gated import Gated
from alm_proxies.files import write_text
from alm_proxies.measures.exchange import exchange
from alm_proxies.seeds import generator
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import HeadModel, Scale, train


def counts_of(listened: Listening, shares: Array | None) -> Counts:
    """The votes beside one listener's shares."""
    count = len(listened.rows)
    given = () if shares is None else (Block("listener", ("listener",), "shares", shares, np.ones(count)),)
    ids = pl.Series("utterance_id", [str(row) for row in range(count)])
    return Counts(
        listened.material.labels,
        ids,
        listened.kept,
        given,
        np.zeros((count, 0)),
        listened.material.fold,
        True,
        None,
        (),
    )


def gated(seed: int) -> Gated:
    return Gated(16, 0.003, seed=seed)


def labels(listened: Listening, shares: Array | None, seed: int) -> Array:
    counts = counts_of(listened, shares)
    return gated(seed).fit(counts).posterior(counts).mean


def un_nested(listened: Listening, seed: int) -> Array:
    """Round 2 as one would write it first: labels fused with round 1 of all folds, then heads without the fold."""
    targets = labels(listened, listened.fitted.rounds[0], seed) * listened.kept.any(1)[:, None]
    shares = np.zeros_like(targets)
    settings = HeadSettings()
    for fold in range(listened.material.folds):
        rows = listened.material.teaching(fold)
        scale = Scale.of(listened.material.features[rows], settings.components)
        scaled = scale.apply(listened.material.features[rows])
        heads = []
        for number in range(settings.seeds):
            chance = generator(seed, "un-nested", fold, number)
            *_, head = train(scaled, targets[rows], settings, chance, listened.fitted.epochs[fold])
            heads.append(head)
        here = listened.material.fold == fold
        shares[here] = HeadModel(listened.material.labels, scale, tuple(heads)).predict(
            listened.material.features[here]
        )
    return shares


def measured(data: Recordings, k: int, draw: int, size: int | None) -> str:
    """The losses and gaps of one draw."""
    listened = data.listen(k, draw, data.sample(size, draw))
    third = un_nested(listened, draw)
    candidates = [labels(listened, shares, draw) for shares in (None, *listened.fitted.rounds, third)]
    losses = " | ".join(f"{log_loss(shares, listened.held):.4f}" for shares in candidates)
    actors = data.actors[listened.rows]
    tests = [exchange(shares, listened.kept, listened.held, actors) for shares in (*listened.fitted.rounds, third)]
    gaps = " | ".join(f"{t.gap.estimate:+.3f} ({t.gap.low:+.3f} to {t.gap.high:+.3f})" for t in tests)
    return f"{losses} | {gaps} |"


def main() -> None:
    warnings.simplefilter("ignore", NotConvergedWarning)
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="encoder")
    parser.add_argument("--model")
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--sizes", default="200,400,all")
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    settings = ListenSettings(recipe=given.recipe, model=given.model)
    data = Recordings(Path(os.environ["ALM_PROXIES_TEST_DATA"]), settings, given.keep)
    columns = ["clips", "k", "draw", "human", "round 1", "nested 2", "un-nested 2", "gap 1", "gap 2", "gap un-nested"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for size in given.sizes.split(","):
        for k in (1, 3):
            for draw in range(given.draws if size != "all" else 1):
                path = given.keep / "draws" / f"nested_{given.recipe}_{size}_k{k}_draw{draw}.txt"
                if not path.exists():
                    write_text(path, measured(data, k, draw, None if size == "all" else int(size)))
                print(f"| {size} | {k} | {draw} | {path.read_text()}", flush=True)


if __name__ == "__main__":
    main()

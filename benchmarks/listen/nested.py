"""What a second round lets through: nested and un-nested rounds, the exchange test, and a fully nested fusion.

CREMA-D, k voice votes a clip, four others held out. Fusion here is `gated` with fixed settings, so that all differences
are the listener's. Printed for each size: log loss a held-out vote of human votes alone, of the labels fused with round
1, with the nested round 2 and with an un-nested round 2 (trained on labels that were fused with its own first round,
all folds at once: a warning, not a part of the product); the exchange gaps of the three listeners (own fitted votes
predicted better than held-out ones, nats a vote, interval over actors); and the log loss of a fully nested fusion,
each fold's labels by a fit whose proxies never saw that fold, beside the ordinary one.

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/listen/nested.py --recipe encoder --model FOLDER --keep FOLDER
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from crema_d import Listening, Recordings, log_loss

from alm_proxies.estimators.blocks import Block
from alm_proxies.estimators.counts import Array, Counts
from alm_proxies.estimators.estimator import NotConvergedWarning
from alm_proxies.estimators.gated import Gated
from alm_proxies.measures.exchange import exchange
from alm_proxies.seeds import generator
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.training.folds import cross_fit
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import HeadModel, Scale, train


def counts_of(one: Listening, shares: Array | None, rows: Array | None = None) -> Counts:
    """The votes of some rows beside one listener's shares."""
    rows = np.arange(len(one.rows)) if rows is None else rows
    given = () if shares is None else (Block("listener", ("listener",), "shares", shares, np.ones(len(rows))),)
    ids = pl.Series("utterance_id", [str(row) for row in rows])
    votes, fold = one.kept[rows], one.material.fold[rows]
    return Counts(one.material.labels, ids, votes, given, np.zeros((len(rows), 0)), fold, True, None, ())


def gated(seed: int) -> Gated:
    return Gated(16, 0.003, seed=seed)


def labels(one: Listening, shares: Array | None, seed: int) -> Array:
    counts = counts_of(one, shares)
    return gated(seed).fit(counts).posterior(counts).mean


def un_nested(one: Listening, seed: int) -> Array:
    """Round 2 as one would write it first: labels fused with round 1 of all folds, then heads without the fold."""
    targets = labels(one, one.fitted.rounds[0], seed) * one.kept.any(1)[:, None]
    made = np.zeros_like(targets)
    settings = HeadSettings()
    for fold in range(one.material.folds):
        rows = one.material.teaching(fold)
        scale = Scale.of(one.material.features[rows], settings.components)
        scaled = scale.apply(one.material.features[rows])
        heads = []
        for number in range(settings.seeds):
            chance = generator(seed, "un-nested", fold, number)
            *_, head = train(scaled, targets[rows], settings, chance, one.fitted.epochs[fold])
            heads.append(head)
        here = one.material.fold == fold
        made[here] = HeadModel(one.material.labels, scale, tuple(heads)).predict(one.material.features[here])
    return made


def fully_nested(one: Listening, seed: int) -> Array:
    """Each fold's labels by a fit to the other folds, with proxies for these that saw no vote of the fold either."""
    made = np.zeros_like(one.kept)
    for fold in range(one.material.folds):
        others, here = one.material.teaching(fold), np.flatnonzero(one.material.fold == fold)
        inside = one.material.fold[others]
        _, inside = np.unique(inside, return_inverse=True)
        part = replace(
            one.material, features=one.material.features[others], votes=one.material.votes[others], fold=inside
        )
        inner = cross_fit(part, HeadSettings(), rounds=1, seed=seed, relabel=lambda _, shares: shares)
        fit = gated(seed).fit(counts_of(one, inner.shares, others))
        made[here] = fit.posterior(counts_of(one, one.fitted.rounds[0][here], here)).mean
    return made


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
    columns = "clips, k, draw, human, round 1, nested 2, un-nested 2, fully nested fusion, gap 1, gap 2, gap un-nested"
    print("|", columns.replace(",", " |"), "|\n|" + "---|" * len(columns.split(",")))
    for size in given.sizes.split(","):
        for k in (1, 3):
            for draw in range(given.draws if size != "all" else 1):
                one = data.listen(k, draw, data.sample(None if size == "all" else int(size), draw))
                third = un_nested(one, draw)
                made = [labels(one, shares, draw) for shares in (None, *one.fitted.rounds, third)]
                made.append(fully_nested(one, draw))
                losses = " | ".join(f"{log_loss(shares, one.held):.4f}" for shares in made)
                actors = data.actors[one.rows]
                tests = [exchange(shares, one.kept, one.held, actors) for shares in (*one.fitted.rounds, third)]
                gaps = " | ".join(f"{t.gap.estimate:+.3f} ({t.gap.low:+.3f} to {t.gap.high:+.3f})" for t in tests)
                print(f"| {size} | {k} | {draw} | {losses} | {gaps} |", flush=True)


if __name__ == "__main__":
    main()

"""Does fuse need nesting? Ordinary fusion of a listener's votes against a fully nested one, by held-out votes.

CREMA-D, k voice votes a clip, four others held out; the product's own fuse with default settings, one round of listen.

ordinary    one fit to all clips and their out-of-fold proxies, as `listen` and `fuse` do it
others      the labels of a fold by a fit to the other folds; their proxies are the ordinary ones, which saw the fold's
            votes: what is lost here is lost by fitting to fewer clips
nested      the same, with proxies for the other folds that saw no vote of the fold either (inner folds): nothing on the
            way to a fold's labels but their own votes was computed from a vote of that fold

nested less others is what the proxies let through; nested less ordinary is what must stay below .003. Beside them the
squared error that pairs of held-out votes show over what the concentration promises, ordinary and nested (1 is honest).
Every draw is kept in a folder as soon as it is done; a run that was stopped goes on.

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/listen/fuse_nested.py --recipe encoder --model FOLDER --keep FOLDER
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from crema_d import Kept, Listening, Recordings, read, shown, sums, write
from cross_fitted import parts_of_promise

from alm_proxies.estimators.counts import Array
from alm_proxies.estimators.estimator import Posterior
from alm_proxies.estimators.trials import Losses, paired
from alm_proxies.stages.fuse.labels import Fusion
from alm_proxies.stages.fuse.settings import FuseSettings
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.training.folds import cross_fit
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import Index

KINDS = ("alone", "ordinary", "others", "nested")


def fused(
    data: Recordings,
    listened: Listening,
    seed: int,
    rows: Index,
    shares: Array | None,
    of: Index,
    folds: dict[str, int],
) -> Posterior:
    """Labels of the clips `of`, beside the ordinary listener, by a fit to `rows` and these rows' shares."""
    utterances, settings = data.corpus.utterances, FuseSettings(seed=seed)
    learned = data.votes(listened.rows[rows], listened.kept[rows], shares, folds)
    fusion = Fusion.of([(learned, utterances)], settings, quiet=True)
    own = None if shares is None else listened.fitted.shares[of]
    votes = data.votes(listened.rows[of], listened.kept[of], own, listened.folds)
    return data.posterior(listened.rows[of], fusion.labels(votes, utterances))


def inner_shares(listened: Listening, rows: Index, seed: int) -> Array:
    """What a listener that knows these rows alone predicts for them, in the folds that are left."""
    fold = np.unique(listened.material.fold[rows], return_inverse=True)[1]
    part = replace(
        listened.material, features=listened.material.features[rows], votes=listened.material.votes[rows], fold=fold
    )
    return cross_fit(part, HeadSettings(), rounds=1, seed=seed, relabel=lambda _, shares: shares).shares


def by_others(data: Recordings, listened: Listening, seed: int, *, nested: bool) -> Posterior:
    """Every fold's labels by a fit to the others."""
    mean, strength = np.zeros_like(listened.kept), np.zeros(len(listened.rows))
    for fold in range(listened.material.folds):
        here, others = (
            np.flatnonzero(part) for part in (listened.material.fold == fold, listened.material.fold != fold)
        )
        shares = inner_shares(listened, others, seed) if nested else listened.fitted.shares[others]
        folds = {speaker: number for speaker, number in listened.folds.items() if number != fold}
        fused_fold = fused(data, listened, seed, others, shares, here, folds)
        mean[here], strength[here] = fused_fold.mean, fused_fold.concentration
    return Posterior(mean, strength)


def measured(data: Recordings, k: int, draw: int, size: int | None) -> Kept:
    """One draw."""
    rows = data.sample(size, draw)
    listened = data.listen(k, draw, rows, rounds=1)
    every = np.arange(len(rows))
    alone = fused(data, listened, draw, every, None, every, {})
    ordinary = fused(data, listened, draw, every, listened.fitted.shares, every, listened.folds)
    nested = by_others(data, listened, draw, nested=True)
    kinds = (alone, ordinary, by_others(data, listened, draw, nested=False), nested)
    kept = {name: sums(posterior.mean, listened.held) for name, posterior in zip(KINDS, kinds, strict=True)}
    promises = np.array(
        [np.sum(parts_of_promise(posterior, listened.held), axis=1) for posterior in (ordinary, nested)]
    )
    return kept | {"actors": data.actors[rows], "votes": listened.held.sum(1), "promises": promises}


def line(draws: list[Kept]) -> str:
    """Log losses and differences of one or several draws, paired over actors."""
    together = {name: np.concatenate([draw[name] for draw in draws]) for name in ("actors", "votes", *KINDS)}
    votes = together["votes"]
    losses = " | ".join(f"{together[kind].sum() / votes.sum():.4f}" for kind in KINDS)
    pairs = [("nested", "ordinary"), ("others", "ordinary"), ("nested", "others")]
    gaps = [paired(Losses(together[a], votes), Losses(together[b], votes), together["actors"]) for a, b in pairs]
    parts = sum(draw["promises"] for draw in draws)
    ratios = ", ".join(f"{error / claim:.2f}" for error, claim in parts)
    return f"{losses} | {' | '.join(shown(gap) for gap in gaps)} | {ratios} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="encoder")
    parser.add_argument("--model")
    parser.add_argument("--keep", type=Path, required=True, help="Folder of finished draws.")
    parser.add_argument("--sizes", default="200,400,all")
    parser.add_argument("--draws", type=int, default=5)
    given = parser.parse_args()
    settings = ListenSettings(recipe=given.recipe, model=given.model)
    data = Recordings(Path(os.environ["ALM_PROXIES_TEST_DATA"]), settings, given.keep)
    columns = ["clips", "k", "draws", *KINDS, "nested - ordinary", "others - ordinary", "nested - others", "promises"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for size in given.sizes.split(","):
        for k in (1, 3):
            draws = []
            for draw in range(given.draws if size != "all" else 1):
                path = given.keep / "draws" / f"fuse-nested_{given.recipe}_{size}_k{k}_draw{draw}.npz"
                if not path.exists():
                    write(path, measured(data, k, draw, None if size == "all" else int(size)))
                draws.append(read(path))
                print(f"| {size} | {k} | {draw} | {line(draws[-1:])}", flush=True)
            if len(draws) > 1:
                print(f"| {size} | {k} | all {len(draws)} | {line(draws)}", flush=True)


if __name__ == "__main__":
    main()

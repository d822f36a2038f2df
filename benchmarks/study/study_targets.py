"""What heads are trained on: targets of training clips by an arm of the study, from votes of training actors alone."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from study_design import Arm
from study_votes import LABELS, Array, Corpus, Index, first_votes, labelled, proxy_votes, refuse_lockbox

from alm_proxies.estimators.estimator import NotConvergedWarning
from alm_proxies.seeds import generator
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.stages.balance.stage import balance
from alm_proxies.stages.fuse.settings import FuseSettings
from alm_proxies.stages.fuse.stage import fuse
from alm_proxies.tables import About, AnnotatorCard, Labels, Utterances, Votes
from alm_proxies.training.folds import Material, assign_folds, cross_fit
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import Floats

INNER_FOLDS = 4
LISTENER_HEAD = HeadSettings(seeds=2)
_FILLED = 0.25
_NEAREST = 3


def human_votes(corpus: Corpus, arm: Arm, rows: Index, seed: int) -> Array:
    """The human votes of some clips that an arm may use; rows of zeros where a clip has none."""
    votes = corpus.voice if arm.targets == "all" else first_votes(corpus, arm.k, seed)
    here: Array = votes[rows].copy()
    if arm.labelled < 1:
        here[~labelled(corpus, rows, arm.labelled, seed)] = 0.0
    return here


def targets_of(corpus: Corpus, features: Floats, arm: Arm, rows: Index, seed: int) -> Array:
    """A distribution for every row; a row of zeros teaches nothing."""
    refuse_lockbox(corpus.actors[rows].tolist())
    votes = human_votes(corpus, arm, rows, seed)
    known = votes.any(1)
    if arm.targets in ("human", "all"):
        return shares_of(votes)
    if arm.targets == "plurality":
        top = (votes == votes.max(1, keepdims=True)) & known[:, None]
        return shares_of(top.astype(np.float64))
    if arm.targets == "pooled":
        return shares_of(votes + proxy_votes(corpus, arm, seed)[rows])
    shares = fused(corpus, features, arm, rows, votes, seed)
    return shares if arm.unlabelled else shares * known[:, None]


def shares_of(votes: Array) -> Array:
    """Counts over their sum; zeros stay zeros."""
    shares: Array = votes / np.maximum(votes.sum(1, keepdims=True), 1.0)
    return shares


def fused(corpus: Corpus, features: Floats, arm: Arm, rows: Index, votes: Array, seed: int) -> Array:
    """`fuse` with its default method, on human votes and the arm's proxy."""
    names = arm.proxy.split("+")
    listener = listened(corpus, features, rows, votes, seed) if "listener" in names else None
    others = [name for name in names if name not in ("listener", "none")]
    proxy = (others[0], proxy_votes(corpus, arm, seed)[rows]) if others else None
    return fuse_votes(corpus, rows, votes, seed, proxy=proxy, listener=listener)


def fuse_votes(
    corpus: Corpus,
    rows: Index,
    votes: Array,
    seed: int,
    *,
    proxy: tuple[str, Array] | None = None,
    listener: tuple[Array, dict[str, int]] | None = None,
) -> Array:
    """`fuse` through the package's own tables: human votes, counts of a proxy by name, a listener with its folds."""
    ids = np.array(corpus.ids)[rows]
    cards: dict[str, AnnotatorCard] = {}
    frames = [_frame(ids, votes, f"{corpus.name}/crowd", "human")]
    if listener is not None:
        shares, folds = listener
        cards["listener"] = AnnotatorCard(digest="0", elicit="score", trained_on_these_votes="out_of_fold", folds=folds)
        frames.append(_score_frame(ids, shares))
    if proxy is not None:
        frames.append(_frame(ids, proxy[1], proxy[0], "proxy"))
    table = Votes.of(pl.concat(frames), about=About(taxonomy=LABELS, annotators=cards))
    people = Utterances.of(pl.DataFrame({"utterance_id": ids, "speaker": corpus.actors[rows]}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        labels = fuse(table, FuseSettings(seed=seed), utterances=people, quiet=True).labels
    joined = pl.DataFrame({"utterance_id": ids}).join(
        labels.frame, on="utterance_id", how="left", maintain_order="left"
    )
    fused_shares: Array = joined.select(pl.col(f"p_{label}").fill_null(0.0) for label in LABELS).to_numpy()
    return fused_shares


def listened(corpus: Corpus, features: Floats, rows: Index, votes: Array, seed: int) -> tuple[Array, dict[str, int]]:
    """What a listener says of every row, trained on the votes of the other inner folds of these rows' actors."""
    actors = corpus.actors[rows].tolist()
    folds = assign_folds(actors, INNER_FOLDS, seed)
    fold = np.array([folds[actor] for actor in actors], dtype=np.int64)
    fitted = cross_fit(
        Material(LABELS, features[rows], votes, fold),
        LISTENER_HEAD, rounds=1, seed=seed, relabel=lambda _, shares: shares, threads=1,
    )  # fmt: skip
    shares = np.maximum(fitted.shares, 1e-6)
    return shares / shares.sum(1, keepdims=True), folds


def _frame(ids: np.ndarray, counts: Array, annotator: str, source: str) -> pl.DataFrame:
    row, label = np.nonzero(counts)
    times = counts[row, label].astype(np.int64)
    frame = pl.DataFrame(
        {"utterance_id": ids[np.repeat(row, times)], "label": np.array(LABELS)[np.repeat(label, times)]}
    )
    draw = pl.int_range(pl.len(), dtype=pl.Int32).over("utterance_id")
    return frame.with_columns(annotator=pl.lit(annotator), source=pl.lit(source), draw=draw, weight=pl.lit(1.0))


def _score_frame(ids: np.ndarray, shares: Array) -> pl.DataFrame:
    frame = pl.DataFrame({"utterance_id": ids.repeat(len(LABELS)), "label": np.tile(LABELS, len(ids))})
    return frame.with_columns(
        annotator=pl.lit("listener"), source=pl.lit("proxy"), draw=pl.lit(0, pl.Int32), weight=pl.Series(shares.ravel())
    )


def uniform_weights(corpus: Corpus, rows: Index, targets: Array) -> Array:
    """The weights of `balance` with its default: classes uniform, by the targets' distributions."""
    ids = np.array(corpus.ids)[rows]
    frame = pl.DataFrame({"utterance_id": ids, **{f"p_{label}": targets[:, j] for j, label in enumerate(LABELS)}})
    people = corpus.utterances.frame.filter(pl.col("utterance_id").is_in(ids.tolist()))
    with tempfile.TemporaryDirectory() as folder:
        balanced = balance(
            Labels.of(frame, taxonomy=LABELS), Utterances.of(people), Path(folder), BalanceSettings(examples=0)
        ).labels
    joined = pl.DataFrame({"utterance_id": ids}).join(balanced.frame, on="utterance_id", maintain_order="left")
    weights: Array = joined["weight"].to_numpy()
    return weights


def filled_up(scaled: Floats, targets: Array, seed: int) -> tuple[Floats, Array]:
    """The papers' filling up of rare classes (SMOTE), on frozen features in place of waveforms.

    Class = most likely label of the target; each class with fewer clips than a quarter of the largest one's gets
    mixtures of a clip with one of its three nearest in the class (itself included): features and target alike,
    x1 + a (x2 - x1), a uniform.
    """
    chance = generator(seed, "study filling up")
    classes = targets.argmax(1)
    sizes = np.bincount(classes, minlength=targets.shape[1])
    more_features, more_targets = [scaled], [targets]
    for label, size in enumerate(sizes):
        missing = int(np.ceil(_FILLED * sizes.max())) - size
        if missing <= 0 or size < 2:
            continue
        own = np.flatnonzero(classes == label)
        square = np.square(scaled[own]).sum(1)
        apart = square[:, None] + square[None] - 2.0 * scaled[own] @ scaled[own].T
        near = np.argsort(apart, axis=1, kind="stable")[:, :_NEAREST]
        first = chance.integers(0, size, missing)
        second = near[first, chance.integers(0, near.shape[1], missing)]
        a = chance.random((missing, 1))
        more_features.append((scaled[own[first]] + a * (scaled[own[second]] - scaled[own[first]])).astype(np.float32))
        more_targets.append(targets[own[first]] + a * (targets[own[second]] - targets[own[first]]))
    return np.concatenate(more_features), np.concatenate(more_targets)

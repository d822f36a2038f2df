"""Cross-validation on human votes: folds by speaker, losses, paired intervals, and worth in human votes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import summed, which_count
from alm_proxies.errors import InputError
from alm_proxies.estimators.counts import Array, Counts, Index, LeftOut, counts_of
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.estimators.trained import FEWEST_SPEAKERS
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import FEWEST_SPEAKERS as FEWEST_FOR_ENDS
from alm_proxies.seeds import generator
from alm_proxies.tables import Votes


@dataclass(frozen=True, slots=True)
class Losses:
    """Summed log loss and votes scored, for each utterance."""

    loss: Array
    votes: Array

    @property
    def mean(self) -> float:
        """Log loss per held-out vote."""
        return float(self.loss.sum() / max(self.votes.sum(), 1e-12))


def units_of(counts: Counts) -> tuple[Counts, str]:
    """The counts with the unit of folds and paired tests for their speaker, and the name of this unit.

    Speakers, or utterances if speakers are not known, if all are one, or if a proxy's folds are of utterances.
    """
    by = "speakers" if counts.speakers_known else "utterances (speakers are not known)"
    proxy = counts.folds if counts.folds is not None and counts.folds.fold is not None else None
    few = f"fewer than {FEWEST_SPEAKERS} speakers" if proxy is not None and proxy.parted else ""
    if len(counts) > 1 and (counts.speakers == counts.speakers[0]).all():
        few = "all are of one speaker"
    if few:
        by, counts = f"utterances ({few})", replace(counts, speakers=np.arange(len(counts), dtype=np.int64))
    return counts, by if proxy is None else f"{by}, those that {proxy.annotator!r} was trained in"


def folds_of(counts: Counts, folds: int, seed: int) -> Index:
    """The fold of each utterance: speaker-disjoint and of similar size; by utterance if speakers are not known.

    If a proxy was trained in folds, these are used, whatever their number: the utterances of a fold have votes of one
    model, whose peculiarities are then never learned on some of them and scored on others.
    """
    rng = generator(seed, "folds")
    groups, group, size = np.unique(counts.speakers, return_inverse=True, return_counts=True)
    fold = np.full(len(groups), -1, dtype=np.int64)
    if counts.folds is not None and counts.folds.fold is not None:
        known = counts.folds.fold >= 0
        np.maximum.at(fold, group[known], np.unique(counts.folds.fold[known], return_inverse=True)[1])
    given = len(np.unique(fold[fold >= 0]))
    if given < 2:
        fold[:] = -1
        folds = max(1, min(folds, len(groups)))
        if len(groups) == len(counts):
            return rng.permutation(np.arange(len(counts)) % folds)
    else:
        taken = fold >= 0
        fold[taken] = np.unique(fold[taken], return_inverse=True)[1]
        folds = given
    load = np.bincount(fold[fold >= 0], weights=size[fold >= 0], minlength=folds).astype(np.float64)
    order = rng.permutation(len(groups))
    for member in order[np.argsort(-size[order], kind="stable")]:
        if fold[member] < 0:
            fold[member] = int(np.argmin(load))
            load[fold[member]] += size[member]
    return np.asarray(fold[group], dtype=np.int64)


def score(estimator: Estimator, beside: Counts, left: LeftOut, utterances: int) -> Losses:
    """Log loss of held-out votes given the other votes of their utterance and its proxies (`beside`)."""
    mean = estimator.posterior(estimator.aligned(beside)).mean
    loss = -(left.targets * np.log(np.maximum(mean, 1e-300))).sum(1) * left.mass
    return Losses(summed(left.rows, loss, utterances), summed(left.rows, left.mass, utterances))


def cross_validate(make: Callable[[int], Estimator], counts: Counts, fold: Index) -> tuple[Losses, list[Estimator]]:
    """Losses of the held-out votes of each fold under a fit to the others, and the fits; `make` takes the fold."""
    loss, votes = np.zeros(len(counts)), np.zeros(len(counts))
    fits = []
    for held_out_fold in range(int(fold.max()) + 1):
        train, test = np.flatnonzero(fold != held_out_fold), np.flatnonzero(fold == held_out_fold)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            estimator = make(held_out_fold).fit(counts.rows(train))
        part = counts.rows(test)
        left = part.left_one_out()
        losses = score(estimator, left.beside(part), left, len(part))
        loss[test], votes[test] = losses.loss, losses.votes
        fits.append(estimator)
    return Losses(loss, votes), fits


def paired(first: Losses, second: Losses, groups: Index) -> Interval:
    """Loss per vote of the first minus that of the second, with a t-interval over groups (speakers).

    The groups are clusters of a ratio estimate: se^2 = G / (G - 1) sum_g (d_g - mean v_g)^2 / (sum_g v_g)^2. Its ends
    decide whatever the number of groups; `printed` is what to show.
    """
    from scipy.special import stdtrit

    _, group = np.unique(groups, return_inverse=True)
    difference = np.bincount(group, weights=first.loss - second.loss)
    votes = np.bincount(group, weights=first.votes)
    difference, votes = difference[votes > 0], votes[votes > 0]
    count = len(votes)
    if not count:
        return Interval(0.0, 0.0, 0.0)
    mean = float(difference.sum() / votes.sum())
    if count < 2:
        return Interval(mean, -np.inf, np.inf, "t", count)
    spread = np.square(difference - mean * votes).sum() * count / (count - 1)
    half = float(stdtrit(count - 1, 0.975) * np.sqrt(spread) / votes.sum())
    return Interval(mean, mean - half, mean + half, "t", count)


def printed(gap: Interval) -> Interval:
    """A paired difference as it is printed: without ends where these would come from one or two groups."""
    return gap if gap.speakers >= FEWEST_FOR_ENDS else replace(gap, low=np.nan, high=np.nan, method="none")


def gap_words(gap: Interval, by: str, unit: str = " nats per held-out vote") -> str:
    """A paired difference in words, with its interval or why there is none; `by` is the unit of the groups."""
    if gap.speakers >= FEWEST_FOR_ENDS:
        return f"{gap.estimate:+.4f}{unit} ({gap.low:+.4f} to {gap.high:+.4f})"
    return f"{gap.estimate:+.4f}{unit} (without an interval, which takes {FEWEST_FOR_ENDS} {groups_in(by)} or more)"


def groups_in(by: str) -> str:
    """The plain word for the unit of the groups: utterances or speakers."""
    return "utterances" if by.startswith("utterances") else "speakers"


@dataclass(frozen=True, slots=True)
class Worth:
    """Worth in human votes: the number of human votes that reach the loss of the fused labels; inf means "> most".

    low and high are NaN with fewer than five speakers.
    """

    votes: float
    low: float
    high: float
    most: int
    """The largest number of human votes on the learning curve."""
    utterances: int


def votes_reaching(ks: Sequence[float], losses: Array, target: float) -> float:
    """The number of votes at which a learning curve reaches a loss.

    The curve is made non-increasing (isotonic regression, as more votes cannot hurt on average) and interpolated
    linearly. For a loss below its end the result is inf; for one above its start, the first point.
    """
    falling = _falling(losses)
    if target < falling[-1]:
        return float("inf")
    if target >= falling[0]:
        return float(ks[0])
    after = int(np.flatnonzero(falling <= target)[0])
    high, low = falling[after - 1], falling[after]
    return float(ks[after - 1] + (ks[after] - ks[after - 1]) * (high - target) / (high - low))


def _falling(losses: Array) -> Array:
    """The nearest non-increasing sequence (pool adjacent violators)."""
    values: list[float] = []
    sizes: list[int] = []
    for loss in losses:
        values.append(float(loss))
        sizes.append(1)
        while len(values) > 1 and values[-1] > values[-2]:
            size = sizes[-1] + sizes[-2]
            values[-2:] = [(values[-1] * sizes[-1] + values[-2] * sizes[-2]) / size]
            sizes[-2:] = [size]
    return np.repeat(values, sizes)


def influence(
    estimator: Estimator,
    votes: Votes,
    utterance_id: str,
    read: Callable[[Votes], Counts] = counts_of,
    copies: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The influence of each annotator on one label: rows annotator, source, votes, moved, concentration, p_<label>.

    p_<label> and concentration are those of the label without the annotator minus those with it; moved is the total
    variation distance between the two. `read` turns votes into counts like the fit. A copy of another annotator did not
    count in the fit, and has no influence; `copies` names them where they are known, and then the votes on this
    utterance are enough.
    """
    frame = votes.frame.filter(pl.col("utterance_id") == utterance_id)
    if not frame.height:
        raise InputError(f"there is no vote for {utterance_id!r}", where="votes", fix="Check the utterance id.")

    if copies is None:
        copies = [finding.where or "" for finding in read(votes).findings if finding.kind == "copied_annotator"]

    def believed(part: pl.DataFrame) -> tuple[NDArray[np.float64], float]:
        counts = read(Votes(part.filter(~pl.col("annotator").is_in(copies)), votes.about))
        posterior = estimator.posterior(estimator.aligned(counts))
        return posterior.mean[0], float(posterior.concentration[0])

    mean, concentration = believed(frame)
    rows = []
    for annotator, source in frame.select("annotator", "source").unique().sort("source", "annotator").iter_rows():
        own = pl.col("annotator") == annotator
        left = frame.with_columns(status=pl.when(own).then(pl.lit("failed")).otherwise(pl.col("status")))
        without, strength = believed(left)
        change = without - mean
        cast = float(frame.filter(own & which_count("fit", consensus=True))["weight"].sum())
        row = {"annotator": annotator, "source": source, "votes": cast}
        row |= {"moved": 0.5 * float(np.abs(change).sum()), "concentration": strength - concentration}
        rows.append(row | {f"p_{label}": float(change[j]) for j, label in enumerate(votes.taxonomy)})
    return pl.DataFrame(rows)

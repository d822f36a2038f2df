"""Ratings from labels and labels from ratings, learned from corpora that have both and scored on held-out votes.

After "Revisiting emotion representations" and UDDETTS, which place a distribution over emotions in the space of
valence, arousal and dominance: here a softmax on the ratings and their products, and a mean rating for every label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import AnnotatorCard
from alm_proxies.ballots import which_count
from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_of
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.printable import counted
from alm_proxies.seeds import generator
from alm_proxies.stages.read.sources import finding
from alm_proxies.tables import ATTRIBUTES, Finding, Utterances, Votes, combine

Wanted = Literal["ratings", "labels"]
Floats = NDArray[np.float64]
FOLDS = 5
RIDGE = 0.01
"""Penalty on the softmax's weights, per utterance."""
PRIOR = 1.0
"""Votes added to every utterance's labels in the shares of all, so that a single vote is no certainty."""
_LEAST = 1e-6
_NAMES = {"ratings": "translated-ratings", "labels": "translated-labels"}


@dataclass(frozen=True, slots=True)
class Score:
    """The error of a translation on held-out votes, beside that of the mean without a translation."""

    of: str
    """labels, or an attribute."""
    measure: str
    error: Interval
    without: float
    votes: int


@dataclass(frozen=True, slots=True)
class _Table:
    """The utterances with the kept and the held-out human votes of each."""

    ids: list[str]
    corpora: NDArray[np.str_]
    speakers: NDArray[np.str_]
    labels: dict[bool, Floats]
    """Votes for each label; key: held out."""
    ratings: dict[bool, Floats]
    """Mean rating of each attribute, NaN where there is none; key: held out."""
    squares: Floats
    """Sum of squared held-out ratings and their number, for each attribute."""


def translated(
    votes: Votes, utterances: Utterances, wanted: Sequence[Wanted], seed: int
) -> tuple[Votes, list[Finding], list[Score]]:
    """The votes with those of a translation for corpora that have only labels or only ratings, and its errors."""
    table = _gathered(votes, utterances)
    findings: list[Finding] = []
    scores: list[Score] = []
    for kind in dict.fromkeys(wanted):
        learned, target = _learned_from(table, kind)
        names = [a for j, a in enumerate(ATTRIBUTES) if np.isfinite(table.ratings[False][learned, j]).any()]
        if kind == "labels":
            rated = np.isfinite(table.ratings[False][target])
            names = [a for a in names if rated[:, ATTRIBUTES.index(a)].any()]
            complete = np.isfinite(table.ratings[False][:, _places(names)]).all(axis=1)
            learned, target = learned & complete, target & complete
        errors = _errors(table, learned, names, kind, seed)
        scores += errors
        translations = _votes(table, learned, target, names, kind, votes, seed)
        votes = combine(votes, translations)
        findings += [_stated(table, learned, target, names, kind), *map(_error, errors)]
    return votes, findings, scores


def _gathered(votes: Votes, utterances: Utterances) -> _Table:
    people = utterances.frame.select("utterance_id", "corpus", "speaker").sort("utterance_id")
    frame = votes.frame.join(people.with_row_index("row"), on="utterance_id", how="inner")
    count = people.height
    labels, ratings = {}, {}
    squares = np.zeros((count, len(ATTRIBUTES), 2))
    for held in (False, True):
        part = frame.filter(which_count("held_out" if held else "human", answer="either"))
        tally = np.zeros((count, len(votes.taxonomy)))
        named = part.filter(pl.col("label").is_not_null())
        place = {label: number for number, label in enumerate(votes.taxonomy)}
        columns = named["label"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
        np.add.at(tally, (named["row"].to_numpy(), columns), named["weight"].to_numpy())
        labels[held] = tally
        means = np.full((count, len(ATTRIBUTES)), np.nan)
        for number, name in enumerate(ATTRIBUTES):
            # a vote of several labels has a row each, with the same rating
            voted = part.filter(pl.col(name).is_not_null()).unique(["row", "annotator", "draw"])
            each = voted.group_by("row").agg(pl.col(name).mean().alias("mean"), pl.len(), (pl.col(name) ** 2).sum())
            means[each["row"].to_numpy(), number] = each["mean"].to_numpy()
            if held:
                squares[each["row"].to_numpy(), number, 0] = each[name].to_numpy()
                squares[each["row"].to_numpy(), number, 1] = each["len"].to_numpy()
        ratings[held] = means
    speaker = people.select(pl.coalesce("speaker", "utterance_id")).to_series()
    return _Table(
        people["utterance_id"].to_list(),
        people["corpus"].to_numpy().astype(np.str_),
        speaker.to_numpy().astype(np.str_),
        labels,
        ratings,
        squares,
    )


def _learned_from(table: _Table, kind: Wanted) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The utterances to learn from, of corpora with both, and those to translate, of corpora with one alone."""
    labelled = table.labels[False].sum(axis=1) > 0
    rated = np.isfinite(table.ratings[False]).any(axis=1)
    given, missing = (labelled, rated) if kind == "ratings" else (rated, labelled)
    any_missing = (table.labels[False] + table.labels[True]).sum(axis=1) > 0
    if kind == "ratings":
        any_missing = np.isfinite(table.ratings[False]).any(axis=1) | np.isfinite(table.ratings[True]).any(axis=1)
    both = {str(corpus) for corpus in table.corpora[given & missing]}
    without = {str(corpus) for corpus in table.corpora[given]} - {str(c) for c in table.corpora[any_missing]}
    if not both:
        message = "no corpus has utterances with both labels and ratings, so no translation can be learned"
        raise SettingsError(message, fix="Read such a corpus too, or leave translate out.")
    if not without:
        message = f"every corpus with votes has {kind} already, so there is nothing to translate"
        raise SettingsError(message, fix="Leave translate out.")
    return given & missing & np.isin(table.corpora, sorted(both)), given & np.isin(table.corpora, sorted(without))


def _places(names: Sequence[str]) -> list[int]:
    return [ATTRIBUTES.index(name) for name in names]


def features(ratings: Floats) -> Floats:
    """One, the ratings on -1..1, their squares and their products."""
    centred = 2 * ratings - 1
    pairs = [centred[:, i] * centred[:, j] for i in range(centred.shape[1]) for j in range(i, centred.shape[1])]
    return np.column_stack([np.ones(len(centred)), centred, *pairs])


def softmax_weights(inputs: Floats, tally: Floats, ridge: float = RIDGE) -> Floats:
    """Weights W that maximise sum n log softmax(inputs W) / sum n - ridge |W|^2 (by L-BFGS)."""
    from scipy.optimize import minimize

    total = tally.sum()
    shape = (inputs.shape[1], tally.shape[1])
    each = tally.sum(axis=1, keepdims=True)

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        logs = _log_softmax(inputs @ weights)
        slope = inputs.T @ (each * np.exp(logs) - tally) / total + 2 * ridge * weights
        return float(-(tally * logs).sum() / total + ridge * (weights**2).sum()), slope.ravel()

    solution = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(solution.x, dtype=np.float64).reshape(shape)


def _log_softmax(scores: Floats) -> Floats:
    high = scores.max(axis=1, keepdims=True)
    return np.asarray(scores - high - np.log(np.exp(scores - high).sum(axis=1, keepdims=True)))


def shares(tally: Floats, prior: Floats) -> Floats:
    """Votes as shares of the labels, with PRIOR votes in the shares of all added."""
    smoothed = tally + PRIOR * prior
    return np.asarray(smoothed / smoothed.sum(axis=1, keepdims=True))


def label_means(given: Floats, ratings: Floats) -> Floats:
    """The mean rating of every label, by least squares of ratings on shares, drawn to the mean of all by one vote."""
    middle = ratings.mean(axis=0)
    inner = given.T @ given + np.eye(given.shape[1])
    return np.asarray(middle + np.linalg.solve(inner, given.T @ (ratings - middle)))


def _to_labels(table: _Table, learned: NDArray[np.bool_], rows: NDArray[np.bool_], places: list[int]) -> Floats:
    kept = table.ratings[False][:, places]
    weights = softmax_weights(features(kept[learned]), table.labels[False][learned])
    return np.exp(_log_softmax(features(kept[rows]) @ weights))


def _to_rating(table: _Table, learned: NDArray[np.bool_], rows: NDArray[np.bool_], place: int) -> Floats:
    tally = table.labels[False]
    learned = learned & np.isfinite(table.ratings[False][:, place])
    prior = tally[learned].sum(axis=0) / tally[learned].sum()
    means = label_means(shares(tally[learned], prior), table.ratings[False][learned][:, [place]])
    return np.clip(shares(tally[rows], prior) @ means, 0, 1)[:, 0]


def _folds(table: _Table, learned: NDArray[np.bool_], seed: int) -> list[NDArray[np.bool_]]:
    """The utterances learned from in folds of speakers, chosen by the seed."""
    people = np.unique(table.speakers[learned])
    order = generator(seed, "translate").permutation(len(people))
    fold_of = dict(zip(people[order].tolist(), (np.arange(len(people)) % FOLDS).tolist(), strict=True))
    fold = np.array([fold_of.get(str(speaker), -1) for speaker in table.speakers])
    return [learned & (fold == number) for number in range(FOLDS)]


def _errors(table: _Table, learned: NDArray[np.bool_], names: Sequence[str], kind: Wanted, seed: int) -> list[Score]:
    """The errors on held-out votes, each utterance translated by a fit to other speakers."""
    folds = _folds(table, learned, seed)
    count = len(learned)
    scores = []
    targets = ["labels"] if kind == "labels" else list(names)
    for target in targets:
        error, without, weight = np.zeros(count), np.zeros(count), np.zeros(count)
        for here in folds:
            others = learned & ~here
            if not here.any() or not others.any():
                continue
            if target == "labels":
                tally = table.labels[True][here]
                shares_of_all = table.labels[False][others].sum(axis=0) + 0.5
                flat = np.log(shares_of_all / shares_of_all.sum())
                error[here] = -(tally * np.log(_to_labels(table, others, here, _places(names)))).sum(axis=1)
                without[here] = -(tally * flat).sum(axis=1)
                weight[here] = tally.sum(axis=1)
                continue
            place = ATTRIBUTES.index(target)
            if not np.isfinite(table.ratings[False][others, place]).any():
                continue
            square, number = table.squares[here, place].T
            mean = np.nan_to_num(table.ratings[True][here, place])
            for kept, guess in (
                (error, _to_rating(table, others, here, place)),
                (without, np.full(int(here.sum()), np.nanmean(table.ratings[False][others, place]))),
            ):
                kept[here] = square - 2 * number * mean * guess + number * guess**2
            weight[here] = number
        scored = weight > 0
        if not scored.any():
            message = f"no held-out vote can score the translation to {target}"
            fix = "Hold votes out and keep some: hold_out = { keep = 3 } (--hold-out keep=3)."
            raise SettingsError(message, fix=fix)
        per = error[scored] / weight[scored]
        mean_error = mean_by_speaker(per, table.speakers[scored], weights=weight[scored], seed=seed)
        base = float(without[scored].sum() / weight[scored].sum())
        if target == "labels":
            scores.append(Score("labels", "nats per held-out vote", mean_error, base, int(weight.sum())))
        else:
            ends = [float(np.sqrt(max(end, 0.0))) for end in (mean_error.low, mean_error.high)]
            rooted = replace(mean_error, estimate=float(np.sqrt(mean_error.estimate)), low=ends[0], high=ends[1])
            scores.append(Score(target, "root mean square, 0..1", rooted, float(np.sqrt(base)), int(weight.sum())))
    return scores


def _votes(
    table: _Table,
    learned: NDArray[np.bool_],
    target: NDArray[np.bool_],
    names: Sequence[str],
    kind: Wanted,
    votes: Votes,
    seed: int,
) -> Votes:
    """One vote of the translation for every utterance of the corpora to translate.

    A translation to ratings also votes where there are ratings, each speaker by a fit to others, so that fusion can
    calibrate it against them.
    """
    named = {"annotator": pl.lit(_NAMES[kind]), "source": pl.lit("proxy"), "draw": pl.lit(0, dtype=pl.Int32)}
    if kind == "labels":
        given = _to_labels(table, learned, target, _places(names))
        wide = pl.DataFrame(given, schema=list(votes.taxonomy)).insert_column(0, _ids(table, target))
        frame = wide.unpivot(index="utterance_id", variable_name="label", value_name="weight")
        frame = frame.filter(pl.col("weight") > _LEAST)
        frame = frame.with_columns(pl.col("weight") / pl.col("weight").sum().over("utterance_id"), **named)
    else:
        guesses = np.full((len(target), len(names)), np.nan)
        for column, name in enumerate(names):
            place = ATTRIBUTES.index(name)
            guesses[target, column] = _to_rating(table, learned, target, place)
            for here in _folds(table, learned, seed):
                others = learned & ~here
                if here.any() and np.isfinite(table.ratings[False][others, place]).any():
                    guesses[here, column] = _to_rating(table, others, here, place)
        rated = np.isfinite(guesses).any(axis=1)
        frame = pl.DataFrame(guesses[rated], schema=list(names)).fill_nan(None).insert_column(0, _ids(table, rated))
        frame = frame.with_columns(label=pl.lit(None, dtype=pl.String), **named)
    frame = frame.sort("utterance_id", "label")
    trained: dict[str, list[str]] = {}
    for corpus in np.unique(table.corpora[learned]):
        trained[str(corpus)] = sorted(set(table.speakers[learned & (table.corpora == corpus)].tolist()))
    card = AnnotatorCard(
        digest=digest_of([kind, list(names), sorted(trained), frame.write_json()]),
        elicit="score" if kind == "labels" else "sample",
        trained_on_these_votes="no" if kind == "labels" else "out_of_fold",
        trained_on=trained if kind == "labels" else None,
    )
    return Votes.of(frame, about=votes.about.with_(annotators={_NAMES[kind]: card}))


def _ids(table: _Table, rows: NDArray[np.bool_]) -> pl.Series:
    return pl.Series("utterance_id", [name for name, here in zip(table.ids, rows, strict=True) if here])


def _stated(
    table: _Table, learned: NDArray[np.bool_], target: NDArray[np.bool_], names: Sequence[str], kind: Wanted
) -> Finding:
    source = ", ".join(np.unique(table.corpora[learned]).tolist())
    into = ", ".join(np.unique(table.corpora[target]).tolist())
    given = "labels" if kind == "ratings" else "ratings"
    number = counted(int(target.sum()), "utterance")
    message = (
        f"{kind} of {number} of {into} are translated from their {given} ({', '.join(names)}), as votes of "
        f"the proxy {_NAMES[kind]!r}, learned from {counted(int(learned.sum()), 'utterance')} of {source}"
    )
    return finding("translated", message, count=int(target.sum()))


def _error(score: Score) -> Finding:
    """The error in words, with its interval over speakers."""
    error = score.error
    better = "lower" if error.high < score.without else "not clearly lower"
    ends = f" ({error.low:.3f} to {error.high:.3f})" if np.isfinite(error.low) else ""
    message = (
        f"the translation to {score.of} has an error of {error.estimate:.3f}{ends} on "
        f"{counted(score.votes, 'held-out vote')} ({score.measure}), {better} than {score.without:.3f} without it"
    )
    return finding("translation_error", message, count=score.votes)

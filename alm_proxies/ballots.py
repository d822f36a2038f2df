"""Selection of votes: by source, status, held_out, published consensus, and secondary labels. Every fit, score and
comparison uses these rules, so all stages count the same votes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.counting import Counting as Counting
from alm_proxies.counting import Merge as Merge
from alm_proxies.errors import InputError
from alm_proxies.tables import ATTRIBUTES, CONSENSUS, CROWD, About, Finding, Labels, Utterances, Votes

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Draws = tuple[Index, Array]
Side = Literal["human", "proxy", "fit", "held_out"]
"""human: human votes that may be fitted; proxy: proxy votes; fit: both; held_out: human votes kept for scoring."""
Answer = Literal["label", "rating", "either"]
"""The part of a vote that is used: its label, its attributes, or either."""

OF_CONSENSUS = pl.col("annotator").str.ends_with(CONSENSUS)
OF_CROWD = pl.col("annotator").str.ends_with(CROWD)
"""Whether a row is a published consensus label, which is not a vote; whether it is of raters who are not known."""
_RATED = pl.any_horizontal(pl.col(*ATTRIBUTES).is_not_null())
_HUMAN: tuple[Side, ...] = ("human", "held_out")
_ANSWERS: dict[Answer, pl.Expr] = {
    "label": pl.col("label").is_not_null(),
    "rating": _RATED,
    "either": pl.col("label").is_not_null() | _RATED,
}
_SIDES: dict[Side, pl.Expr] = {
    "human": (pl.col("source") == "human") & ~pl.col("held_out"),
    "proxy": (pl.col("source") == "proxy") & ~pl.col("held_out"),
    "fit": ~pl.col("held_out"),
    "held_out": (pl.col("source") == "human") & pl.col("held_out"),
}


def counting_of(labels: About) -> Counting | None:
    """How the votes behind labels were counted; None if the labels do not state it."""
    made_by = labels.made_by
    if made_by is None:
        return None
    try:
        return Counting.model_validate({name: made_by.settings[name] for name in Counting.model_fields})
    except (ValueError, KeyError, TypeError):  # of another stage, or written by another version
        return None


def counting_on(counting: Counting | None, utterances: Utterances) -> tuple[Counting, list[Finding]]:
    """How to count votes as the labels state it, as far as these utterances allow; findings on what is missing."""
    if counting is None:
        message = "the labels do not state how their votes were counted, so the rivals count primary labels only"
        fix = "Labels written by fuse state it; fuse the votes again if yours are from an earlier version."
        return Counting(), [Finding.of("counting_not_known", message, fix)]
    frame = utterances.frame
    there = tuple(name for name in counting.columns if name in frame.columns and frame[name].dtype.is_numeric())
    lacking = [name for name in counting.columns if name not in there]
    if not lacking:
        return counting, []
    message = f"the labels were fused with the column {lacking[0]!r}, which these utterances lack: rivals do not use it"
    fix = "Give the utterances file that fuse used."
    finding = Finding.of("column_lacking", message, fix, count=len(lacking))
    return counting.model_copy(update={"columns": there}), [finding]


def which_count(side: Side, *, consensus: bool = False, answer: Answer = "label") -> pl.Expr:
    """Which rows of a Votes frame count on a side: those with status ok and such an answer.

    Published consensus labels count only where `consensus` is set, on every side.
    """
    counts = (pl.col("status") == "ok") & _ANSWERS[answer] & _SIDES[side]
    return counts if consensus else counts & ~OF_CONSENSUS


def left_out(votes: Votes, *, consensus: bool = False, answer: Answer = "either") -> list[Finding]:
    """Findings for the rows not counted for a fit; each left-out row has one reason, a consensus label its own."""
    noun = "ratings" if answer == "rating" else "votes"
    status = [name for name in votes.frame["status"].unique().sort().to_list() if name != "ok"]
    away = pl.col("held_out")
    held = away if consensus else away & ~OF_CONSENSUS
    reasons = {("held_out", f"human {noun} held out for scoring, not fitted", ""): held}
    for source in ("human", "proxy") if answer != "rating" else ():
        for name in status:
            failed = ~away & (pl.col("source") == source) & (pl.col("status") == name)
            reasons[name, f"{source} votes without a label ({name})", ""] = failed
    ok = ~away & (pl.col("status") == "ok")
    if not consensus:
        labels = "ratings" if answer == "rating" else "labels"
        fix = "Set consensus = true to count them." if answer == "either" else ""
        reasons["consensus", f"published consensus {labels}, which are not votes", fix] = (ok | away) & OF_CONSENSUS
        ok = ok & ~OF_CONSENSUS
    if answer == "label":
        reasons["no_label", "votes without a label", ""] = ok & ~_ANSWERS["label"]
    among = _RATED if answer == "rating" else pl.lit(value=True)
    sums = [(condition & among).sum().alias(str(place)) for place, condition in enumerate(reasons.values())]
    counts = votes.frame.select(sums).row(0)
    return [
        Finding.of(kind, message, fix, count=count)
        for (kind, message, fix), count in zip(reasons, counts, strict=True)
        if count
    ]


def without_consensus(votes: Votes) -> Votes:
    """The votes without published consensus labels."""
    return Votes(votes.frame.filter(~OF_CONSENSUS), votes.about)


def not_fitted(votes: Votes) -> dict[str, int]:
    """The number of human votes that no fit of labels uses, by reason: held_out, status or rating (without a label)."""
    human = without_consensus(votes).frame.filter(pl.col("source") == "human")
    return human.select(
        held_out=which_count("held_out").sum(),
        status=(pl.col("status") != "ok").sum(),
        rating=((pl.col("status") == "ok") & ~_ANSWERS["label"]).sum(),
    ).row(0, named=True)


def only_held_out(votes: Votes) -> pl.Series:
    """The utterances with held-out human votes only, including published consensus labels."""
    given, held = (
        votes.frame.filter(which_count(side, consensus=True, answer="either"))["utterance_id"].unique().sort()
        for side in _HUMAN
    )
    return held.filter(~held.is_in(given.implode()))


def held_out_without_label(votes: Votes) -> int:
    """The number of utterances with held-out human votes of which none has a label."""
    held = without_consensus(votes).frame.filter(_SIDES["held_out"])
    return held["utterance_id"].n_unique() - held.filter(which_count("held_out"))["utterance_id"].n_unique()


def is_rater(annotator: str) -> bool:
    """Whether a human annotator is one known person, not a crowd without names or a published consensus."""
    return not annotator.endswith((CROWD, CONSENSUS))


def is_crowd(annotator: str) -> bool:
    """Whether an annotator represents unknown raters (a crowd)."""
    return annotator.endswith(CROWD)


def refuse_unknown_raters(human: pl.DataFrame, asker: str) -> None:
    """Raise for votes with unknown raters."""
    crowd = human.filter(OF_CROWD)["annotator"].unique().sort()
    if len(crowd):
        raise InputError(
            f"{asker} needs the rater of each vote, and the raters of {crowd[0]!r} are not known",
            where="votes",
            fix="Give votes with rater names, or do not use it.",
        )


@dataclass(frozen=True, slots=True)
class Usable:
    """The label votes of a fit, as codes: rows u (index of the utterance), label, annotator, draw ..."""

    utterances: pl.Series
    """All utterances of the votes, in order, with or without usable votes."""
    annotators: list[str]
    human: pl.DataFrame
    proxy: pl.DataFrame
    findings: tuple[Finding, ...]
    """The votes that were left out."""


def usable_of(votes: Votes, *, consensus: bool = False) -> Usable:
    """The label votes of a fit as codes, human and proxy votes separately."""
    frame, labels = votes.frame, votes.taxonomy
    if not frame.height or not labels:
        raise InputError("there are no label votes to fuse", where="votes", fix="Give a Votes file with labels.")
    ids, code = _codes(frame["utterance_id"])
    names = frame["annotator"].unique().sort().to_list()
    coded = frame.select(
        pl.Series("u", code),
        label=pl.col("label").cast(pl.Enum(labels)).to_physical().cast(pl.Int64),
        annotator=pl.col("annotator").cast(pl.Enum(names)).to_physical(),
        human=which_count("human", consensus=consensus),
        proxy=which_count("proxy", consensus=consensus),
    ).with_columns(frame["weight"], frame["draw"], frame["secondary"])
    human, proxy = (coded.filter(side).drop("human", "proxy") for side in ("human", "proxy"))
    return Usable(ids, names, human, proxy, tuple(left_out(votes, consensus=consensus)))


def summed(place: Index, weight: Array, size: int) -> Array:
    """The sums of the weights by index: 0 .. size - 1."""
    return np.bincount(place, weights=weight, minlength=size).astype(np.float64, copy=False)


def human_counts(
    votes: pl.DataFrame, n: int, labels: Sequence[str], merge: Merge
) -> tuple[Array, Draws | None, list[Finding]]:
    """Counts (utterances x labels) of rows u, label, weight, draw, secondary; the draws if any is shared."""
    k = len(labels)
    row, label, weight = (votes[name].to_numpy() for name in ("u", "label", "weight"))
    primary = summed(row * k + label, weight, n * k).reshape(n, k)
    named = votes.with_row_index("vote").filter(pl.col("secondary").list.len() > 0) if votes.height else votes
    shared = bool((weight < 1.0 - 1e-9).any()) if len(weight) else False
    if not named.height or not merge.secondary:
        findings = []
        if named.height:
            message = "human votes name secondary labels, which are not used"
            fix = "fuse counts them in labels with merge = { primary = 0.9, secondary = 0.1 }."
            findings.append(Finding.of("secondary", message, fix=fix, count=named.height))
        vectors = np.eye(k)[label] * weight[:, None] if shared else None
        return primary, None if vectors is None else _draws(votes, vectors), findings
    each = named.select("vote", "secondary").explode("secondary")
    known = each.filter(pl.col("secondary").is_in(list(labels)))
    outside = each.height - known.height
    place = known["vote"].to_numpy().astype(np.int64)
    second = np.zeros((votes.height, k))
    np.add.at(second, (place, known["secondary"].cast(pl.Enum(labels)).to_physical().to_numpy()), 1.0)
    total = second.sum(1, keepdims=True)
    second = weight[:, None] * np.divide(second, total, out=np.zeros_like(second), where=total > 0)
    cast = primary.sum(1)
    naming = summed(row, weight * (total[:, 0] > 0), n)
    share = np.where(naming > 0, merge.primary, 1.0)
    scale = merge.secondary * np.divide(cast, naming, out=np.zeros(n), where=naming > 0)
    vectors = np.eye(k)[label] * (weight * share[row])[:, None] + second * scale[row, None]
    merged = np.stack([summed(row, vectors[:, j], n) for j in range(k)], axis=1)
    findings = []
    if outside:
        message = "secondary labels outside the taxonomy, left out"
        findings.append(Finding.of("secondary_out_of_vocabulary", message, count=outside))
    return merged, _draws(votes, vectors), findings


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """Draws, one row each: utterance, annotator, draw and its weights over the labels (sum 1)."""

    rows: Index
    vectors: Array
    annotators: Index
    draws: Index
    names: tuple[str, ...]
    utterances: int

    def counts(self) -> Array:
        """Votes for each label, utterances x labels."""
        total = np.zeros((self.utterances, self.vectors.shape[1]))
        np.add.at(total, self.rows, self.vectors)
        return total

    def sizes(self) -> Index:
        """The number of draws of each utterance."""
        return np.bincount(self.rows, minlength=self.utterances).astype(np.int64)

    @property
    def shared(self) -> bool:
        """Whether any draw is shared among labels, as scored and stated distributions are."""
        return bool((self.vectors.max(1, initial=0.0) < 1.0 - 1e-9).any())

    def of(self, annotator: str) -> Ballots:
        """One annotator's draws."""
        return self.where(self.annotators == self.names.index(annotator))

    def where(self, kept: NDArray[np.bool_]) -> Ballots:
        """Some of the draws."""
        return replace(
            self,
            rows=self.rows[kept],
            vectors=self.vectors[kept],
            annotators=self.annotators[kept],
            draws=self.draws[kept],
        )


def ballots_of(votes: Votes, ids: pl.Series, side: Side, *, consensus: bool = False) -> Ballots:
    """The draws of one side for the given utterances, in the order of `ids`; only primary labels count."""
    rows = pl.DataFrame({"utterance_id": ids}).with_row_index("row")
    kept = votes.frame.filter(which_count(side, consensus=consensus))
    frame = kept.select("utterance_id", "annotator", "draw", "label", "weight").join(rows, on="utterance_id")
    frame = frame.sort("row", "annotator", "draw", "label")
    names = tuple(frame["annotator"].unique().sort().to_list())
    keys = frame.select(pl.struct("row", "annotator", "draw").rle_id().alias("ballot"))["ballot"].to_numpy()
    first = np.flatnonzero(np.diff(keys, prepend=-1)) if len(keys) else np.zeros(0, dtype=np.int64)
    places = {name: k for k, name in enumerate(votes.taxonomy)}
    label = frame["label"].replace_strict(places, return_dtype=pl.Int64).to_numpy()
    vectors = np.zeros((len(first), len(places)))
    np.add.at(vectors, (keys, label), frame["weight"].to_numpy())
    total = vectors.sum(1, keepdims=True)
    codes = frame["annotator"].replace_strict({name: a for a, name in enumerate(names)}, return_dtype=pl.Int64)
    return Ballots(
        rows=frame["row"].to_numpy().astype(np.int64)[first],
        vectors=vectors / np.where(total > 0, total, 1.0),
        annotators=codes.to_numpy().astype(np.int64)[first],
        draws=frame["draw"].to_numpy().astype(np.int64)[first],
        names=names,
        utterances=len(ids),
    )


def refuse_other_taxonomy(votes: Votes, labels: Sequence[str]) -> None:
    """Raise for votes over other labels than these; votes without a taxonomy pass."""
    if votes.taxonomy and votes.taxonomy != tuple(labels):
        raise InputError(
            f"the votes have the taxonomy {', '.join(votes.taxonomy)}, the labels {', '.join(labels)}",
            fix="Give the votes that the labels were made from.",
        )


def with_shares_of_votes(labels: Labels, votes: Votes | None, utterances: Utterances) -> tuple[Labels, list[Finding]]:
    """Labels with the plain shares of each utterance's human votes in place of its distribution.

    Votes count as they did for the labels; held-out ones never. A copy has the shares of its parent, a mixture those of
    its parents in the proportions of its recipe. An utterance without such votes keeps its label; they are counted.
    concentration is the number of votes.
    """
    if votes is None:
        fix = "Give the human votes (--votes), or leave targets = labels."
        raise InputError("targets = votes needs the human votes", where="votes", fix=fix)
    refuse_other_taxonomy(votes, labels.taxonomy)
    counting = counting_of(labels.about) or Counting()
    human = votes.frame.filter(which_count("human", consensus=counting.consensus))
    if not human.height:
        fix = "Give votes that are not held out, or leave targets = labels."
        raise InputError("there is no human vote to take shares of", where="votes", fix=fix)
    usable = usable_of(Votes(human, votes.about), consensus=counting.consensus)
    counts, _, _ = human_counts(usable.human, len(usable.utterances), labels.taxonomy, counting.merge)
    ids = labels.frame["utterance_id"]
    voters = pl.DataFrame({"utterance_id": usable.utterances}).with_row_index("place")
    known = ids.to_frame().join(voters, on="utterance_id", how="left", maintain_order="left")["place"]
    voted = known.is_not_null().to_numpy().copy()
    shares, sizes = labels.distributions().copy(), labels.frame["concentration"].to_numpy().astype(np.float64)
    own = counts[known.drop_nulls().to_numpy()]
    sizes[voted] = own.sum(1)
    shares[voted] = own / own.sum(1, keepdims=True)
    items = utterances.frame.filter(pl.col("recipe").is_not_null()).select("utterance_id", "recipe")
    if items.height:
        recipes, place = dict(items.iter_rows()), dict(voters.select("utterance_id", "place").iter_rows())
        for row in np.flatnonzero(~voted):
            if parts := _voted_parts(ids[int(row)], place, recipes):
                voted[row] = True
                sizes[row] = sum(part * counts[index].sum() for index, part in parts)
                shares[row] = sum(part * counts[index] / counts[index].sum() for index, part in parts)
    if not voted.any():
        fix = "Give votes that are not held out, or leave targets = labels."
        raise InputError("no label belongs to an utterance with human votes", where="votes", fix=fix)
    flags = pl.Series("_voted", voted)
    frame = labels.frame.with_columns(
        *(pl.Series(f"p_{label}", shares[:, j]) for j, label in enumerate(labels.taxonomy)),
        concentration=pl.when(flags).then(pl.Series(sizes)).otherwise(pl.col("concentration")),
        proxy_votes=pl.when(flags).then(0.0).otherwise(pl.col("proxy_votes")),
        concentration_gain=pl.when(flags).then(0.0).otherwise(pl.col("concentration_gain")),
    ).drop("entropy", "ambiguity")
    findings = []
    if missing := int((~voted).sum()):
        example = labels.frame["utterance_id"].filter(~flags)[0]
        message = "utterances have no human votes to take shares of; their labels are used"
        findings.append(Finding.of("label_for_votes", message, utterance_id=example, count=missing))
    return Labels.of(frame, about=labels.about), findings


def _voted_parts(
    name: str, place: dict[str, int], recipes: dict[str, str], deepest: int = 16
) -> list[tuple[int, float]] | None:
    """The places of the voted utterances that an item is made of, with their parts; None if one has no votes."""
    if name in place:
        return [(place[name], 1.0)]
    if name not in recipes or not deepest:
        return None
    parts: list[tuple[int, float]] = []
    for parent, share in json.loads(recipes[name])["parents"]:
        of_parent = _voted_parts(parent, place, recipes, deepest - 1)
        if of_parent is None:
            return None
        parts += [(index, share * part) for index, part in of_parent]
    return parts


def _draws(votes: pl.DataFrame, vectors: Array) -> Draws:
    keys = votes.select("u", "annotator", "draw")
    distinct = keys.unique().sort("u", "annotator", "draw")
    place = keys.join(distinct.with_row_index("d"), on=["u", "annotator", "draw"], how="left", maintain_order="left")
    d = place["d"].to_numpy().astype(np.int64)
    mass = np.stack([summed(d, column, distinct.height) for column in vectors.T], axis=1)
    return distinct["u"].to_numpy().astype(np.int64), np.asarray(mass)


def _codes(ids: pl.Series) -> tuple[pl.Series, Index]:
    if ids.is_sorted():
        runs = ids.rle_id()
        first = runs.is_first_distinct() if ids.len() < 2 else pl.concat([runs.head(1) >= 0, runs.diff().slice(1) > 0])
        return ids.filter(first), runs.cast(pl.Int64).to_numpy()
    distinct = ids.unique().sort()
    code = ids.to_frame().join(
        distinct.to_frame().with_row_index("row"), on=ids.name, how="left", maintain_order="left"
    )["row"]
    return distinct, code.cast(pl.Int64).to_numpy()

"""Training data: rows of labels, weights, votes and ratings, divided into training and development."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import all_trained_on
from alm_proxies.ballots import ballots_of, is_rater, only_held_out, refuse_other_taxonomy
from alm_proxies.errors import InputError
from alm_proxies.seeds import generator
from alm_proxies.table_checks import refuse_no_rows
from alm_proxies.table_splits import of_any_split
from alm_proxies.tables import ATTRIBUTES, Finding, Labels, Utterances, Votes
from alm_proxies.trained_on import trained_on_by, trained_on_of
from alm_proxies.training.people import people_of
from alm_proxies.whole_votes import whole_counts

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RaterVotes:
    """Votes of known raters: parallel arrays of row, rater and weights by label."""

    raters: tuple[str, ...]
    row: Index
    rater: Index
    shares: Array
    """(votes, labels): the weights of each vote, sum 1."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Aligned rows, one per utterance, sorted by id; `train` and `development` are row numbers."""

    labels: tuple[str, ...]
    ids: tuple[str, ...]
    speakers: tuple[str | None, ...]
    people: pl.DataFrame
    """row, corpus, speaker and split of every recording that a row is made of. The split is null where the corpus names
    none, or divides no utterances of unknown speakers."""
    train: Index
    development: Index
    shares: Array
    """Targets of training: the labels' distributions."""
    weight: Array
    """The labels' weights."""
    concentration: Array
    """The labels' strengths; NaN = exact or not known."""
    attributes: Array
    """Valence, arousal, dominance; NaN = not known."""
    counts: Array
    """Human votes that are not held out, by label; all 0 without votes."""
    whole: Array
    """The same with one label for every vote that is shared among labels, for likelihoods."""
    rater_votes: RaterVotes
    seconds: Array
    """Duration from the table of utterances; NaN = not known."""
    findings: tuple[Finding, ...] = ()
    teacher: dict[str, list[str]] = field(default_factory=dict)
    """Where the labels are predictions of a model: what that was trained on."""

    def __len__(self) -> int:
        return len(self.ids)

    def heard(self, train: Index, development: Index) -> tuple[Targets, int]:
        """The targets with only these rows, whose recordings can be used, and the number of the other rows."""
        rows = len(self.train) + len(self.development)
        return replace(self, train=train, development=development), rows - len(train) - len(development)

    @property
    def usual_shares(self) -> Array:
        """The labels' shares among training rows, with one row more that has all labels alike; rows count by their
        weights in relation to the mean."""
        weights = self.weight[self.train]
        mass = (self.shares[self.train] * (weights / weights.mean())[:, None]).sum(0) + 1 / len(self.labels)
        return np.asarray(mass / mass.sum())

    def row_weights(self, half: float | None) -> Array:
        """weight x c / (c + half), c = the label's concentration in votes; an unknown or exact one counts as 1."""
        if half is None:
            return self.weight
        with np.errstate(invalid="ignore"):
            return self.weight * np.nan_to_num(self.concentration / (self.concentration + half), nan=1.0)

    def class_shares_nll(self, rows: Index) -> float | None:
        """Log loss per human vote of these rows, of the class shares of training votes; None without such votes."""
        judged, learned = self.counts[rows].sum(0), self.counts[self.train].sum(0)
        if not judged.sum() or not learned.sum():
            return None
        shares = (learned + 1.0) / (learned + 1.0).sum()
        return float(-(judged * np.log(shares)).sum() / judged.sum())

    @property
    def contents(self) -> list[str]:
        """Digests of the divided rows, and of what is learned and scored: a training that resumes needs the same."""
        arrays: list[NDArray[Any]] = [self.train, self.development, self.shares, self.weight, self.concentration]
        arrays += [self.attributes, self.counts, self.rater_votes.shares]
        arrays += [self.whole] if (self.whole != self.counts).any() else []
        return [hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest() for part in arrays]

    @property
    def trained_on(self) -> dict[str, list[str]]:
        """Corpora, their speakers and splits among training and development rows, with those of the labels' model."""
        own = trained_on_by(self.people_in(np.concatenate([self.train, self.development])).drop("row"))
        return all_trained_on(own, self.teacher) or {}

    def people_in(self, rows: Index) -> pl.DataFrame:
        """`people` of some rows."""
        return self.people.filter(pl.col("row").is_in(pl.Series(rows).implode()))


def targets_of(
    labels: Labels,
    utterances: Utterances,
    *,
    votes: Votes | None = None,
    development: float = 0.1,
    seed: int = 0,
    raters: bool = False,
) -> Targets:
    """The labelled rows of split train (or none) and development; left-out rows are counted in findings.

    If no utterance is of split development, a share of the speakers is set aside for it (of the utterances, if speakers
    are not known); items that were mixed from recordings of both sides are left out then. Utterances of split train
    with held-out human votes only are left out, and items made of them.
    """
    refuse_no_rows(labels.frame, "labels")
    refuse_no_rows(utterances.frame, "utterances")
    rows, people, findings = labelled_rows(labels, utterances, votes)
    if not len(rows):
        lost = "; ".join(f"{finding.count:,} {finding.message}" for finding in findings)
        message = f"no labelled utterance of split train or development can be used{f' ({lost})' if lost else ''}"
        fix = "Give labels of weight above 0, of utterances of the splits train and development or without a split."
        raise InputError(message, where="labels", fix=fix)
    aside: list[Finding] = []
    is_development = (rows["split"] == "development").to_numpy()
    if not is_development.any():
        rows, is_development, aside = _set_aside(rows, people, development, seed)
    counts, whole, left_out, rater_votes = _counts(rows["utterance_id"], labels.taxonomy, votes, raters, seed)
    findings += [*left_out, *aside]
    if is_development.all():
        raise InputError("no utterance of split train has a label", fix="Check labels, utterances and their splits.")
    return Targets(
        labels=labels.taxonomy,
        ids=tuple(rows["utterance_id"]),
        speakers=tuple(rows["speaker"]),
        people=rows.select("utterance_id")
        .with_row_index("row")
        .join(people, on="utterance_id")
        .select(pl.col("row").cast(pl.Int64), "corpus", "speaker", "split"),
        train=np.flatnonzero(~is_development),
        development=np.flatnonzero(is_development),
        shares=rows.select(f"p_{label}" for label in labels.taxonomy).to_numpy().astype(np.float64).clip(0.0),
        weight=rows["weight"].to_numpy().astype(np.float64),
        concentration=_numbers(rows["concentration"]),
        attributes=np.stack([_numbers(rows[name]) for name in ATTRIBUTES], axis=1),
        counts=counts,
        whole=whole,
        rater_votes=rater_votes,
        seconds=_numbers(rows["seconds"]),
        findings=tuple(findings),
        teacher=trained_on_of(labels.about),
    )


def labelled_rows(
    labels: Labels, utterances: Utterances, votes: Votes | None
) -> tuple[pl.DataFrame, pl.DataFrame, list[Finding]]:
    """Labels of the utterances of split train (or none) and development, sorted by id; whose recordings these are made
    of (people_of); left-out rows are counted. An utterance that may be of a speaker of any split is left out too.
    """
    shares = [f"p_{label}" for label in labels.taxonomy]
    people = people_of(utterances.frame)
    about = utterances.frame.select(
        "utterance_id",
        "speaker",
        split=pl.col("split").fill_null("train"),
        seconds=pl.coalesce("duration", pl.col("end") - pl.col("start").fill_null(0.0)),
    )
    wanted = labels.frame.select("utterance_id", *shares, "weight", "concentration", *ATTRIBUTES)
    joined = wanted.join(about, on="utterance_id", how="left")
    is_held_out = pl.lit(False)
    if votes is not None:
        made_of = people.filter(pl.col("part").is_in(only_held_out(votes).implode()))["utterance_id"].unique()
        is_held_out = (pl.col("split") == "train") & pl.col("utterance_id").is_in(made_of.implode())
    anyone = people.filter(pl.col("part").is_in(of_any_split(utterances.frame).implode()))["utterance_id"].unique()
    findings: list[Finding] = []
    for kind, which, message in (
        ("no_utterance", pl.col("split").is_null(), "labels of utterances that are not in the table of utterances"),
        ("no_weight", pl.col("weight") <= 0, "labels of weight 0"),
        ("only_held_out", is_held_out, "utterances of split train with held-out human votes only"),
        (
            "unknown_speaker",
            pl.col("utterance_id").is_in(anyone.implode()),
            "utterances in no split, whose unknown speakers may be of the test split, are not learned from",
        ),
    ):
        out = joined.filter(which)
        if len(out):
            findings.append(Finding("train", kind, message, count=len(out)))
        joined = joined.filter(~which)
    rows = joined.filter(pl.col("split").is_in(["train", "development"])).sort("utterance_id")
    return rows, people.join(rows.select("utterance_id"), on="utterance_id", how="semi"), findings


def _without_votes(ids: pl.Series, votes: Votes) -> Finding:
    """The finding for votes that cannot judge a model: of other utterances, or all held out."""
    voted = votes.frame["utterance_id"]
    if len(voted) and not ids.is_in(voted.implode()).any():
        message = f"none of the votes is on one of these utterances: they are on {voted[0]!r} and others"
        return Finding("train", "no_human_votes", message, "Give the votes of the labels' own corpus (--votes).")
    message = "no utterance has a human vote that is not held out"
    return Finding("train", "no_human_votes", message, "Give human votes that are not held out (--votes).")


def _counts(
    ids: pl.Series, labels: tuple[str, ...], votes: Votes | None, raters: bool, seed: int
) -> tuple[Array, Array, list[Finding], RaterVotes]:
    if votes is None:
        empty = np.zeros(0, dtype=np.int64)
        none = RaterVotes((), empty, empty, np.zeros((0, len(labels))))
        if raters:
            raise InputError("raters need votes", fix="Give votes, or set raters = 0.")
        nothing = np.zeros((len(ids), len(labels)))
        return nothing, nothing, [], none
    refuse_other_taxonomy(votes, labels)
    ballots = ballots_of(votes, ids, "human")
    findings = []
    if not len(ballots.rows):
        findings.append(_without_votes(ids, votes))
    known = np.array([is_rater(name) for name in ballots.names], dtype=bool)
    if raters and not known.any():
        raise InputError("the raters of the votes are not known", fix="Set raters = 0.")
    theirs = ballots.where(known[ballots.annotators] if len(known) else np.zeros(0, dtype=bool))
    names = tuple(name for name, is_known in zip(ballots.names, known, strict=True) if is_known)
    place = np.cumsum(known) - 1
    own = place[theirs.annotators].astype(np.int64) if len(known) else theirs.annotators
    counts = ballots.counts()
    whole = whole_counts(ballots.rows, ballots.vectors, len(ids), seed) if ballots.shared else counts
    return counts, whole, findings, RaterVotes(names, theirs.rows, own, theirs.vectors)


def _set_aside(
    rows: pl.DataFrame, people: pl.DataFrame, share: float, seed: int
) -> tuple[pl.DataFrame, NDArray[np.bool_], list[Finding]]:
    """Set aside a share of the speakers as development; if they are not known, of utterances, each with its copies.

    The rows without items that are mixed from recordings of both sides, which of them are development, and findings.
    """
    names = people["group"].unique().sort().to_list()
    if len(names) < 2:
        raise InputError(
            "there is only one speaker, so none can be set aside for early stopping and calibration",
            fix="Give some utterances the split development.",
        )
    count = min(len(names) - 1, max(1, round(share * len(names))))
    chosen = generator(seed, "development").permutation(names)[:count].tolist()
    inside = people.select("utterance_id", inside=pl.col("group").is_in(chosen)).group_by("utterance_id")
    sides = inside.agg(all=pl.col("inside").all(), any=pl.col("inside").any())
    sides = rows.select("utterance_id").join(sides, on="utterance_id", how="left", maintain_order="left")
    kept = sides["all"] | ~sides["any"]
    mask = sides["all"].filter(kept).to_numpy()
    unit = "utterances" if rows["speaker"].null_count() == len(rows) else "speakers"
    message = f"no utterance is of split development: {count} of {len(names)} {unit} are set aside for it"
    fix = "Give the utterances of some speakers the split development."
    findings = [Finding("train", "development_set_aside", message, fix, count=int(mask.sum()))]
    if both := int((~kept).sum()):
        message = f"items mixed from recordings of both the {unit} that are trained on and those set aside are left out"
        findings.append(Finding("train", "mixed_across_sides", message, fix, count=both))
    return rows.filter(kept), mask, findings


def _numbers(column: pl.Series) -> Array:
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)

"""The votes or soft labels of a source as the votes of one proxy, and what that proxy was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import polars as pl

from alm_proxies.about import AnnotatorCard, Measured, about_of, all_trained_on
from alm_proxies.ballots import without_consensus
from alm_proxies.errors import InputError, TableError
from alm_proxies.files import canonical_json, digest_of
from alm_proxies.printable import counted
from alm_proxies.stages.read.rows import read_rows
from alm_proxies.stages.read.settings import Source
from alm_proxies.stages.read.sources import finding, prefixed
from alm_proxies.tables import Finding, Labels, Utterances, Votes
from alm_proxies.trained_on import measured_of, trained_on_of

_LEAST = 1e-9
"""Smaller shares of a soft label are not taken as votes."""


def as_proxy(
    votes: Votes, labels: Labels | None, utterances: Utterances, source: Source, inputs: Sequence[Path]
) -> tuple[Votes, list[Finding]]:
    """The votes of a source, or its soft labels, as votes of the proxy that it names; `inputs` are its files."""
    name, where = source.proxy, str(source.source)
    if name is None:
        return votes, []
    if labels is not None and len(votes):
        fix = "Map either votes (label or counts) or probabilities."
        raise InputError(f"has both votes and soft labels for the proxy {name!r}", where=where, fix=fix)
    cast = without_consensus(votes)
    frame = _soft(labels, name) if labels is not None else _cast(cast.frame, name)
    folds, findings = _folds(source, utterances.frame)
    if labels is None and (consensus := len(votes) - len(cast)):
        message = f"{counted(consensus, 'published consensus label')} left out, which the votes of {name!r} led to"
        findings.append(finding("consensus", message, where=where, count=consensus))
    shared = bool((frame["weight"] < 1.0).any())
    elicit = "score" if shared else "sample"
    stated = {"name": name, "elicit": elicit, "trained": source.trained_on_these_votes, "folds": folds}
    trained_on, measured = _stated(inputs, voted=labels is None, where=where)
    card = AnnotatorCard(
        digest=digest_of([stated, trained_on] if trained_on else stated),
        elicit=elicit,
        trained_on_these_votes=source.trained_on_these_votes,
        folds=folds,
        trained_on=trained_on,
        measured=measured,
    )
    about = votes.about.with_(annotators={name: card})
    return Votes.of(frame, about=about, where=where), findings


def _stated(inputs: Sequence[Path], *, voted: bool, where: str) -> tuple[dict[str, list[str]] | None, Measured | None]:
    """What the files say that the model of these predictions, or a proxy of these votes, was trained on, and how well
    it did elsewhere; None where they do not state it.
    """
    tables = [about_of(path) for path in inputs if path.suffix.lower() == ".parquet" and path.is_file()]
    models = {canonical_json(trained_on_of(about)): about for about in tables if trained_on_of(about)}
    if len(models) > 1:
        fix = "Read the predictions of each model by themselves, as a proxy with a name of its own (--as proxy:NAME)."
        raise InputError(f"has predictions of {len(models)} models that learned other speakers", where=where, fix=fix)
    cards = [card for about in tables for card in about.annotators.values() if voted and card.source == "proxy"]
    known = [(trained_on_of(about), measured_of(about)) for about in models.values()]
    known += [(card.trained_on or {}, card.measured) for card in cards]
    trained_on = reduce(all_trained_on, (each or None for each, _ in known), None)
    return trained_on, known[0][1] if len(known) == 1 else None


def _cast(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The votes under the proxy's name, with draws numbered anew within each utterance."""
    number = pl.struct("annotator", "draw").rank("dense").over("utterance_id")
    return frame.with_columns(
        draw=(number - 1).cast(pl.Int32), annotator=pl.lit(name), source=pl.lit("proxy"), held_out=pl.lit(value=False)
    )


def _soft(labels: Labels, name: str) -> pl.DataFrame:
    """A vote of the proxy for each utterance, shared among the labels as the soft label is."""
    shares = labels.frame.select("utterance_id", pl.col([f"p_{label}" for label in labels.taxonomy]))
    long = shares.unpivot(index="utterance_id", variable_name="label", value_name="weight")
    long = long.filter(pl.col("weight") > _LEAST).with_columns(
        pl.col("label").str.strip_prefix("p_"),
        pl.col("weight") / pl.col("weight").sum().over("utterance_id"),
        annotator=pl.lit(name),
        source=pl.lit("proxy"),
        draw=pl.lit(0, dtype=pl.Int32),
    )
    return long.sort("utterance_id", "label")


def _folds(source: Source, utterances: pl.DataFrame) -> tuple[dict[str, int] | None, list[Finding]]:
    """The fold of each speaker (or utterance), numbered in the order of the folds' names; and findings about them."""
    where = str(source.source)
    if source.trained_on_these_votes != "out_of_fold":
        return None, []
    if source.folds is None:
        message = f"the folds in which {source.proxy!r} was trained are not stated, so fuse will make its own"
        fix = "Give them: folds = a table with the columns speaker and fold."
        return None, [finding("folds_unknown", message, fix=fix, where=where)]
    table = _fold_table(source, utterances)
    several = table.group_by("key").agg(pl.col("fold").n_unique()).filter(pl.col("fold") > 1)["key"].sort()
    findings = []
    if len(several):
        message = (
            f"{counted(len(several), 'speaker is', 'speakers are')} in several folds, such as {several[0]!r}, so "
            f"{source.proxy!r} voted "
        )
        message += "on speakers that its models were trained on"
        fix = "Train again in folds of speakers; until then check the exchange test of align."
        findings.append(finding("folds_share_speakers", message, fix=fix, where=where, count=len(several)))
        return None, findings
    names = {name: place for place, name in enumerate(sorted(table["fold"].unique().to_list(), key=_by_number))}
    if len(names) < 2:
        fix = "Give the fold that was left out of the training for each speaker."
        raise TableError("has fewer than two folds", where=str(source.folds), fix=fix)
    folds = {key: names[fold] for key, fold in table.unique("key").sort("key").iter_rows()}
    return folds, findings


def _by_number(name: str) -> tuple[float, str]:
    return (float(name), name) if name.replace(".", "", 1).isdigit() else (float("inf"), name)


def _fold_table(source: Source, utterances: pl.DataFrame) -> pl.DataFrame:
    """Columns key (speaker, or utterance where speakers are not known) and fold, as text."""
    path = source.folds or Path()
    if not path.is_file() and path.name in utterances.columns:
        own = pl.col(path.name).cast(pl.String).alias("fold")
        return utterances.select(pl.coalesce("speaker", "utterance_id").alias("key"), own).drop_nulls().unique()
    rows = read_rows(path)
    column = "utterance_id" if "utterance_id" in rows.columns and "speaker" not in rows.columns else "speaker"
    folds = rows.words(column, "fold")
    for name in (column, "fold"):
        rows.refuse(folds[name].is_null(), name, "is missing", "Fill that column in every row.")
    return folds.with_columns(prefixed(column, source.corpus)).rename({column: "key"}).unique()

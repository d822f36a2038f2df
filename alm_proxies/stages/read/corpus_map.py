"""The page of several corpora read together: which word became which label, how ratings were aligned, what was lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from alm_proxies import __version__
from alm_proxies.ballots import without_consensus
from alm_proxies.printable import counted
from alm_proxies.report.charts import Heat
from alm_proxies.report.findings import findings_table
from alm_proxies.report.page import Block, Cell, Column, Figure, Page, Section, Table, Text
from alm_proxies.stages.read.aligned import corpora_of
from alm_proxies.stages.read.translate import Score
from alm_proxies.tables import ATTRIBUTES, Finding, Findings, Utterances, Votes

LEFT_OUT = "left out"
_MOST = 40
"""Words drawn in the picture, the most frequent first; the table has all."""


def words_of(votes: Votes, utterances: Utterances) -> pl.DataFrame:
    """Corpus, word, label and votes of all human votes that name a word; no label = left out."""
    named = (
        _of_people(votes, utterances)
        .with_columns(word=pl.coalesce("stated", "label"))
        .filter(pl.col("word").is_not_null())
    )
    summed = named.group_by("corpus", "word", "label").agg(votes=pl.col("weight").sum())
    return summed.sort("corpus", "votes", "word", descending=[False, True, False])


def map_page(utterances: Utterances, votes: Votes, findings: Findings, errors: Sequence[Score] = ()) -> Page:
    """The page of the corpora together."""
    words = words_of(votes, utterances)
    corpora = sorted(utterances.frame["corpus"].unique().to_list())
    lost = words.filter(pl.col("label").is_null())["votes"].sum()
    total = words["votes"].sum()
    summary = (
        f"{len(corpora)} corpora were read into one taxonomy of {len(votes.taxonomy)} labels. Of "
        f"{counted(float(total), 'human vote')} naming a word, {lost:,.0f} left out as naming one that is not a label."
    )
    figures = (
        Figure(f"{len(corpora)}", "corpora", ", ".join(corpora)),
        Figure(f"{len(utterances):,}", "utterances"),
        Figure(f"{total:,.0f}", "human votes"),
        Figure(f"{lost:,.0f}", "left out"),
    )
    sections = [
        _words(words, votes.taxonomy),
        _corpora(utterances, votes, corpora),
        _ratings(utterances, votes, corpora),
    ]
    if errors:
        sections.append(_translation(errors))
    listed = findings_table([Finding(**row) for row in findings.frame.drop("severity").sort("kind").to_dicts()])
    number = f"{counted(len(findings), 'finding')}, of all corpora."
    sections.append(Section("What was left out or changed", number, (listed,)))
    made_by = votes.about.made_by
    made_by_cells = {"alm-proxies": __version__, "settings": made_by.settings_digest if made_by is not None else ""}
    headline = f"{', '.join(corpora)} in one taxonomy"
    return Page("Corpora together", headline, summary, figures, tuple(sections), made_by_cells)


def _words(words: pl.DataFrame, labels: Sequence[str]) -> Section:
    columns = [*labels, LEFT_OUT]
    shown = words.group_by("corpus", "word").agg(pl.col("votes").sum()).sort("votes", "word", descending=[True, False])
    shown = shown.head(_MOST).sort("corpus", "votes", "word", descending=[False, True, False])
    values = np.zeros((shown.height, len(columns)))
    place = {(corpus, word): row for row, (corpus, word) in enumerate(shown.select("corpus", "word").iter_rows())}
    for corpus, word, label, count in words.iter_rows():
        if (corpus, word) in place:
            values[place[corpus, word], columns.index(label or LEFT_OUT)] += count
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.nan_to_num(values / values.sum(axis=1, keepdims=True))
    names = [f"{corpus}: {word} ({count:,.0f})" for corpus, word, count in shown.iter_rows()]
    blocks: list[Block] = []
    if names:
        rest = words.select("corpus", "word").unique().height - len(names)
        note = f"{counted(rest, 'rarer word is', 'rarer words are')} in the table only." if rest > 0 else ""
        blocks.append(
            Heat(
                "words_to_labels", "Votes of each word by label, in per cent", names, columns, shares,
                row_title="word of a corpus (votes)", column_title="label",
                alt="For every word of every corpus, the share of its votes under each label.", note=note,
            )
        )  # fmt: skip
    rows: list[list[Cell]] = [
        [corpus, word, label or LEFT_OUT, count] for corpus, word, label, count in words.iter_rows()
    ]
    blocks.append(Table.of(["Corpus", "Word", "Label", Column("Votes")], rows, "Votes by word and label.", folded=True))
    changed = float(words.filter(pl.col("label").is_not_null() & (pl.col("word") != pl.col("label")))["votes"].sum())
    lead = f"{counted(changed, 'vote')} became a label of another name; every other vote kept its word or was left out."
    return Section("Which word became which label", lead, tuple(blocks))


def _of_people(votes: Votes, utterances: Utterances) -> pl.DataFrame:
    """The human votes, with the corpus of each."""
    kept = without_consensus(votes)
    frame = kept.frame.with_columns(corpus=corpora_of(kept, utterances))
    return frame.filter(pl.col("source") == "human")


def _corpora(utterances: Utterances, votes: Votes, corpora: Sequence[str]) -> Section:
    human = _of_people(votes, utterances)
    rows: list[list[Cell]] = []
    for corpus in corpora:
        people, mine = utterances.frame.filter(corpus=corpus), human.filter(corpus=corpus)
        rows.append(
            [
                corpus,
                people.height,
                people["speaker"].drop_nulls().n_unique() or None,
                mine["annotator"].n_unique(),
                float(mine["weight"].sum()),
                int(mine["held_out"].sum()),
                people["audio"].null_count(),
            ]
        )
    columns = ["Corpus", "Utterances", "Speakers", "Raters", "Votes", "Held-out rows", "Without recording"]
    lead = "Ids, speakers and raters carry the name of their corpus, so no two of them are mixed up."
    return Section("Corpora", lead, (Table.of(columns, rows),))


def _ratings(utterances: Utterances, votes: Votes, corpora: Sequence[str]) -> Section:
    human = _of_people(votes, utterances)
    rows: list[list[Cell]] = []
    for corpus in corpora:
        for name in ATTRIBUTES:
            values = human.filter(corpus=corpus)[name].drop_nulls()
            if len(values):
                low, high = votes.about.scales.get(corpus, {}).get(name, (None, None))
                scale = "rank" if low is None else f"{low:g} to {high:g}"
                spread = float(np.std(values.to_numpy()))
                rows.append([corpus, name, scale, len(values), float(np.mean(values.to_numpy())), spread])
    if not rows:
        return Section("Ratings", "No corpus has ratings.", (Text("There is nothing to align."),))
    columns = ["Corpus", "Attribute", "Scale", "Ratings", "Mean", "Standard deviation"]
    lead = "All ratings are on 0..1: from the two ends of their scale, or as ranks within their corpus."
    return Section("Ratings", lead, (Table.of(columns, rows),))


def _translation(errors: Sequence[Score]) -> Section:
    rows: list[list[Cell]] = [[each.of, each.measure, each.error, each.without, each.votes] for each in errors]
    columns = ["Translated to", "Error", "With translation", "Mean of all", "Held-out votes"]
    lead = "Learned from corpora with both, each utterance translated by a fit to other speakers."
    return Section("Translation between labels and ratings", lead, (Table.of(columns, rows),))

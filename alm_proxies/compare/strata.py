"""Strata of utterances: those known before any held-out vote, and those from the held-out votes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ambiguity import LEVELS, THIRDS, Cuts, places
from alm_proxies.ballots import Array, ballots_of
from alm_proxies.columns import holds_numbers
from alm_proxies.printable import counted
from alm_proxies.tables import Finding, Labels, Utterances, Votes

Words = NDArray[np.str_]
MOST_VALUES = 12
"""A column with more values than this is not used as groups."""
_GROUPS = ("gender", "corpus", "language")

AGREEMENT = "agreement of the human votes"
AMBIGUITY = "ambiguity of the label"
LABEL = "most likely label"
OUTCOME = "ambiguity of the held-out votes"
"""Thirds of the entropy of the held-out votes: an outcome, which rewards over-confidence in its low stratum."""
OBSERVABLE = (AGREEMENT, AMBIGUITY, LABEL)
_ORDER = ("none", "one vote", "all agree", "a majority", "no majority", "low", "medium", "high")
_LEVELS = np.array(LEVELS)


def strata_of(human: Array, shares: Array, labels: Sequence[str], cuts: Cuts = THIRDS) -> dict[str, Words]:
    """The stratum of every utterance, for each stratification that needs no held-out votes.

    agreement: from the human votes of the fit; ambiguity: the entropy of the label's shares over ln K, cut where the
    labels say; label: the label of the highest share.
    """
    strata = {AGREEMENT: agreement(human)}
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1) / np.log(shares.shape[1])
    strata[AMBIGUITY] = _LEVELS[places(np.round(entropy, 12), tuple(np.round(cuts, 12)))]
    strata[LABEL] = np.asarray(labels)[shares.argmax(1)]
    return strata


def strata_table(
    votes: Votes, utterances: Utterances, before: Labels | None = None, *, consensus: bool = False
) -> tuple[pl.DataFrame, list[Finding]]:
    """A table of utterance_id and one column per stratification without held-out votes; findings on unused columns.

    Stratifications: the agreement of the human votes of the fit; with labels `before`, their ambiguity and top label;
    gender, corpus, language and every group column of the utterances with few values.
    """
    ids = votes.frame["utterance_id"].unique().sort()
    if before is None:
        strata = {AGREEMENT: agreement(ballots_of(votes, ids, "human", consensus=consensus).counts())}
    else:
        ids = ids.filter(ids.is_in(before.frame["utterance_id"].implode()))
        known = ids.to_frame("utterance_id").join(before.frame, on="utterance_id", how="left", maintain_order="left")
        human = ballots_of(votes, ids, "human", consensus=consensus).counts()
        shares = known.select(f"p_{label}" for label in before.taxonomy).to_numpy()
        strata = strata_of(human, shares, before.taxonomy, before.cuts)
    groups, findings = groups_of(ids, utterances)
    return pl.DataFrame({"utterance_id": ids, **strata, **groups}), findings


def speakers_of(ids: pl.Series, utterances: Utterances | None) -> Words | None:
    """The speaker of each utterance (the utterance itself if unknown); None if no speaker is known."""
    named = _named_speakers(ids, utterances)
    return named.fill_null(ids).to_numpy().astype(np.str_) if named.count() else None


def has_speaker(ids: pl.Series, utterances: Utterances | None) -> NDArray[np.bool_]:
    """Whether the speaker of each utterance is known."""
    return _named_speakers(ids, utterances).is_not_null().to_numpy()


def speaker_count(speakers: Words | None, known: NDArray[np.bool_]) -> tuple[int, int]:
    """The number of known speakers, and the number of utterances whose speaker is not known."""
    names = set() if speakers is None else set(speakers[known].tolist())
    return len(names), int((~known).sum())


def _named_speakers(ids: pl.Series, utterances: Utterances | None) -> pl.Series:
    if utterances is None:
        return pl.Series("speaker", [None] * len(ids), pl.String)
    table = utterances.frame.select("utterance_id", "speaker")
    return ids.to_frame("utterance_id").join(table, on="utterance_id", how="left", maintain_order="left")["speaker"]


def groups_of(ids: pl.Series, utterances: Utterances) -> tuple[dict[str, Words], list[Finding]]:
    """By group column: the value of each utterance. Columns with too many values are reported as findings."""
    frame = ids.to_frame("utterance_id").join(utterances.frame, on="utterance_id", how="left", maintain_order="left")
    groups: dict[str, Words] = {}
    findings = []
    for name in (*_GROUPS, *utterances.group_columns):
        column = frame[name]
        if not (column.dtype == pl.String or column.dtype == pl.Boolean or column.dtype.is_integer()):
            continue
        values = column.cast(pl.String).fill_null("not known")
        if values.n_unique() > MOST_VALUES:
            message = f"the column {name!r} has {counted(values.n_unique(), 'value')} and is not shown as groups"
            fix = f"Reduce it to {MOST_VALUES} values or fewer."
            if column.dtype == pl.String and holds_numbers(column):
                message = f"{message}; it is text that holds numbers"
                fix = f"{fix} fuse takes it as a number: columns = [{name!r}] (--columns {name})."
            findings.append(Finding.of("many_values", message, fix))
        elif values.n_unique() > 1:
            groups[name] = values.to_numpy().astype(np.str_)
    return groups, findings


def agreement(votes: Array) -> Words:
    """none, one vote, all agree, a majority (over half), or no majority."""
    total, most = votes.sum(1), votes.max(1)
    words = np.where(most > total / 2 + 1e-9, "a majority", "no majority")
    words = np.where(most >= total - 1e-9, "all agree", words)
    words = np.where(total < 1.5, "one vote", words)
    return np.where(total <= 0, "none", words).astype(np.str_)


def value_words(title: str, value: str) -> str:
    """A value of a stratification of test utterances as a page shows it: with the reason where no votes are left."""
    return f"{value}, as all are held out" if (title, value) == (AGREEMENT, "none") else value


def in_order(values: Words) -> list[str]:
    """The distinct values: strata from clear to ambiguous, others by name."""
    distinct = [str(value) for value in np.unique(values)]
    return sorted(distinct, key=lambda value: (_ORDER.index(value) if value in _ORDER else len(_ORDER), value))

"""All that the report takes from every vote, gathered part by part, so that only the votes of its sample are held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import polars as pl

from alm_proxies.ballots import Counting, without_consensus
from alm_proxies.compare.leaks import given_votes
from alm_proxies.measures.exchange import Exchange, Exchanges
from alm_proxies.table_checks import refuse_two_sources
from alm_proxies.tables import About, Finding, Utterances, Votes
from alm_proxies.trained_on import without_trained_on_votes

_UTTERANCES = 50_000
"""The votes of this number of utterances are looked at together."""


@dataclass(frozen=True, slots=True)
class Overview:
    """All votes in short; votes of proxies on their own training data are not in it."""

    about: About
    known: pl.Series
    """The utterances with votes, in order."""
    given: pl.DataFrame
    """By utterance: the human votes left to the fit, and whether any is held out."""
    exchanges: list[Exchange]
    findings: list[Finding]
    """The votes of proxies that were trained on these speakers."""

    @property
    def tested(self) -> list[Finding]:
        """Findings of the exchange test for every proxy, if utterances have both votes of the fit and held-out ones."""
        fix = "Give votes of a model that was trained without the utterance's speaker, or leave the proxy out."
        findings = []
        for test in self.exchanges:
            if test.knows:
                findings.append(Finding.of("proxies_leak", test.words(test.annotator), fix, where=test.annotator))
            elif test.utterances:
                findings.append(Finding.of("exchange", test.words(test.annotator), where=test.annotator))
        return findings

    @classmethod
    def of(
        cls, parts: Iterable[Votes], utterances: Utterances, *, stated: Counting | None, counting: Counting
    ) -> Overview:
        """From parts in the order of ids; `stated` is how the labels state that votes were counted."""
        about = About()
        known, given, sources = [], [], []
        left: dict[str | None, Finding] = {}
        exchanges = Exchanges(utterances, consensus=counting.consensus)
        for part in parts:
            about = part.about
            sources.append(part.frame.select("annotator", "source").unique())
            votes, findings = without_trained_on_votes(part, utterances, stage="align")
            for finding in findings:
                before = left[finding.where].count if finding.where in left else 0
                left[finding.where] = replace(finding, count=before + finding.count)
            counted = votes if counting.consensus else without_consensus(votes)
            known.append(_own(counted.frame.select(pl.col("utterance_id").unique().sort())))
            given.append(_own(given_votes(votes, stated)))
            exchanges.add(votes)
        if sources:
            refuse_two_sources(pl.concat(sources).unique(), "votes")
        ids = pl.concat(known).to_series() if known else pl.Series("utterance_id", [], dtype=pl.String())
        each = pl.concat(given) if given else given_votes(Votes.of(pl.DataFrame(schema=_NO_VOTES)), stated)
        order = sorted(left, key=str)
        return cls(about, ids, each, exchanges.tests(), [left[name] for name in order])


_NO_VOTES = {"utterance_id": pl.String(), "annotator": pl.String(), "label": pl.String()}


def in_parts(votes: Votes, utterances: int = _UTTERANCES) -> Iterator[Votes]:
    """The votes of a table, those of some utterances at a time, in the order of ids."""
    ids = votes.frame["utterance_id"].unique().sort()
    if len(ids) <= utterances:
        yield votes
        return
    for first in range(0, len(ids), utterances):
        some = ids.slice(first, utterances)
        yield Votes(
            votes.frame.filter(pl.col("utterance_id").is_between(pl.lit(some[0]), pl.lit(some[-1]))), votes.about
        )


def _own(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its text copied: otherwise it keeps the text of the whole part in memory."""
    return frame.with_columns(pl.col("utterance_id") + "")

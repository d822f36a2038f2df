"""A first pass over all votes, part by part: findings, the layout of proxies, and a sample to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import Usable, human_counts, left_out, not_fitted, usable_of, which_count
from alm_proxies.content import ContentDigest
from alm_proxies.estimators.attributes import has_ratings, rated_by_people
from alm_proxies.estimators.blocks import Layout, Marks, layout_of
from alm_proxies.estimators.counts import Counts, counts_of, refuse_other_utterances
from alm_proxies.estimators.sample import FIT_ROWS, Sample
from alm_proxies.printable import counted
from alm_proxies.stages.fuse.learn import needs_people, teaches
from alm_proxies.table_checks import refuse_two_sources
from alm_proxies.tables import About, Finding, Utterances, Votes
from alm_proxies.trained_on import without_trained_on_votes

if TYPE_CHECKING:
    from alm_proxies.stages.fuse.settings import FuseSettings

RATED_ROWS = 300_000
"""With more rated utterances than this, the model of ratings is fitted to a sample."""
Part = tuple[Votes, Utterances | None]


@dataclass(frozen=True, slots=True)
class Survey:
    """The result of the first pass over all votes."""

    counts: Counts | None
    """The counts of a sample of the usable utterances: those with human votes, or all where there are none and the
    method needs none; None if there are no usable ones."""
    layout: Layout
    ratings: Votes | None
    """The votes of a sample of the utterances with human ratings; None if no human rated an attribute."""
    findings: tuple[Finding, ...]
    without_human: int
    """Utterances without a human vote to fuse."""
    held_out_only: int
    """Those of them whose human votes are held out."""
    utterances: int
    without_votes: int
    """Utterances without any vote to fuse, human or proxy."""
    inputs: dict[str, str]
    """A digest of the tables' content, by need."""
    not_fitted: Mapping[str, int]
    """The number of human votes that no fit uses, by reason."""


def survey(parts: Iterable[Part], settings: FuseSettings, *, described: str | None = None) -> Survey:
    """Read every part once; an utterance is never split between parts, and parts are in the order of ids.

    `described` is the digest of the utterances if the parts do not have all their rows and columns.
    """
    taught, rated = _Kept(FIT_ROWS, settings.seed), _Kept(RATED_ROWS, settings.seed)
    proxies_only = _Kept(FIT_ROWS, settings.seed)
    people_needed = needs_people(settings)
    marks, summed = Marks(), _SummedFindings()
    sources = pl.DataFrame(schema={"annotator": pl.String(), "source": pl.String()})
    seen = without = held = bare = 0
    attributes = False
    unused: Counter[str] = Counter()
    read, apart = _Read(), _Apart()
    about = About()
    for votes, utterances in parts:
        about = votes.about
        read.add(votes, utterances if described is None else None)
        votes, met = without_trained_on_votes(votes, utterances, stage="fuse")
        summed.add(met)
        usable = usable_of(votes, consensus=settings.consensus)
        ids = usable.utterances
        human, _, more = human_counts(usable.human, len(ids), votes.taxonomy, settings.merge)
        summed.add([*usable.findings, *more])
        unused.update(not_fitted(votes))
        marks.add(usable.proxy.with_columns(pl.col("u") + seen), usable.annotators)
        sources = pl.concat([sources, votes.frame.select("annotator", "source").unique()]).unique()
        taught.offer(teaches(settings, human), ids, votes, utterances)
        if not (people_needed or len(taught.ids)):
            proxies_only.offer(np.ones(len(ids), dtype=np.bool_), ids, votes, utterances)
        ratings = np.zeros(len(ids), dtype=np.bool_)
        if has_ratings(votes):
            attributes = True
            summed.add(left_out(votes, answer="rating"))
            ratings = rated_by_people(votes, ids)
        rated.offer(ratings, ids, votes, None)
        unvoted = ids.filter(human.sum(1) == 0)
        away = votes.frame.filter(which_count("held_out", consensus=settings.consensus))["utterance_id"]
        held += int(unvoted.is_in(away.implode()).sum())
        apart.add(usable, people=(human.sum(1) > 0) | ids.is_in(away.implode()).to_numpy())
        bare += len(ids) - pl.concat([usable.human["u"], usable.proxy["u"]]).n_unique()
        seen, without = seen + len(ids), without + len(unvoted)
    refuse_two_sources(sources, "votes")
    layout = layout_of(marks.marks, about, marks.copies())
    counts = None
    learned = taught if len(taught.ids) or any(unused.values()) else proxies_only
    if len(learned.ids):
        sampled = learned.utterances()
        refuse_other_utterances(learned.ids, sampled)
        counts = counts_of(
            learned.votes(about), merge=settings.merge, utterances=sampled, columns=settings.columns,
            consensus=settings.consensus, layout=layout,
        )  # fmt: skip
    return Survey(
        counts,
        layout,
        rated.votes(about) if attributes else None,
        (*summed.findings(), *layout.findings, *apart.findings()),
        without,
        held,
        seen,
        bare,
        read.inputs() | ({"utterances": described} if described is not None else {}),
        unused,
    )


class _Apart:
    """How many utterances each proxy voted on, and how many of them have a human vote, held out or not."""

    def __init__(self) -> None:
        self._voted: Counter[str] = Counter()
        self._shared: Counter[str] = Counter()
        self._people = False

    def add(self, usable: Usable, *, people: NDArray[np.bool_]) -> None:
        pairs = usable.proxy.select("u", "annotator").unique()
        shared = people[pairs["u"].to_numpy()]
        self._voted.update(usable.annotators[code] for code in pairs["annotator"])
        self._shared.update(usable.annotators[code] for code in pairs["annotator"].filter(pl.Series(shared)))
        self._people |= bool(people.any())

    def findings(self) -> list[Finding]:
        """One for each proxy without an utterance that people rated, where people rated others."""
        message = "{!r} votes on {}, none of which has a human vote"
        fix = (
            "If people rated these utterances, read it with their ids: corpus (--corpus) names the corpus of them, "
            "and ids of a folder of recordings are without the files' endings."
        )
        return [
            Finding.of("proxy_apart", message.format(name, counted(count, "utterance")), fix, where=name, count=count)
            for name, count in sorted(self._voted.items())
            if self._people and not self._shared[name]
        ]


class _Read:
    """A digest of the input for each need, independent of how the tables are divided into parts."""

    def __init__(self) -> None:
        self._digests: dict[str, ContentDigest] = {}
        self._stated: dict[str, dict[str, object]] = {}

    def add(self, votes: Votes, utterances: Utterances | None) -> None:
        for need, table in (("votes", votes), ("utterances", utterances)):
            if table is not None:
                self._digests.setdefault(need, ContentDigest(table.KEY)).update(table.content())
                self._stated[need] = table.stated()

    def inputs(self) -> dict[str, str]:
        return {need: digest.hexdigest(self._stated[need]) for need, digest in self._digests.items()}


class _Kept:
    """The votes of a sample of utterances, and their rows among the utterances."""

    def __init__(self, size: int, seed: int) -> None:
        self.sample = Sample(size, seed)
        self.ids = pl.Series("utterance_id", [], dtype=pl.String())
        self._votes: list[pl.DataFrame] = []
        self._utterances: list[Utterances] = []

    def offer(self, usable: NDArray[np.bool_], ids: pl.Series, votes: Votes, utterances: Utterances | None) -> None:
        before = self.sample.places
        chosen = self.sample.offer(usable)
        still = np.isin(before, self.sample.places)
        if not still.all():
            self.ids = self.ids.filter(still)
            self._votes = [_of(self.ids, frame) for frame in self._votes]
            self._utterances = [replace(some, frame=_of(self.ids, some.frame)) for some in self._utterances]
        new = _copied(ids.filter(chosen).to_frame()).to_series()
        if len(new):
            self.ids = pl.concat([self.ids, new.rename("utterance_id")])
            self._votes.append(_copied(_of(new, votes.frame)))
            if utterances is not None:
                self._utterances.append(replace(utterances, frame=_copied(_of(new, utterances.frame))))

    def votes(self, about: About) -> Votes:
        empty = Votes.of(
            pl.DataFrame(schema={"utterance_id": pl.String(), "annotator": pl.String(), "label": pl.String()})
        )
        return Votes(pl.concat(self._votes) if self._votes else empty.frame, about)

    def utterances(self) -> Utterances | None:
        if not self._utterances:
            return None
        return replace(self._utterances[0], frame=pl.concat([some.frame for some in self._utterances]))


class _SummedFindings:
    """Findings of several parts, merged: equal findings become one, with the sum of the counts."""

    def __init__(self) -> None:
        self._counts: dict[Finding, int] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            alike = replace(finding, count=0)
            self._counts[alike] = self._counts.get(alike, 0) + finding.count

    def findings(self) -> list[Finding]:
        return [replace(finding, count=count) for finding, count in self._counts.items()]


def _of(ids: pl.Series, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("utterance_id").is_in(ids.implode()))


def _copied(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its text copied: otherwise a few rows of a frame keep the text of all its rows in memory."""
    return frame.with_columns(pl.col(pl.String) + "")

"""align: report the worth of proxies from labels and the votes behind them, as a page and as metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from alm_proxies.ballots import Counting, counting_of
from alm_proxies.settings import deciding
from alm_proxies.shown import Shown
from alm_proxies.stages.align.settings import AlignSettings
from alm_proxies.tables import Finding, Findings, Labels, Utterances, Votes
from alm_proxies.trained_on import without_trained_on, without_trained_on_votes

__all__ = ["AlignSettings", "Alignment", "align"]

if TYPE_CHECKING:
    from alm_proxies.measures.exchange import Exchange
    from alm_proxies.report.page import Page


@dataclass(frozen=True, slots=True)
class Alignment(Shown):
    """The result of align: metrics as plain values, the report page, and findings."""

    metrics: dict[str, Any]
    page: Page
    findings: Findings

    @property
    def line(self) -> str:
        """The page's headline."""
        return self.page.headline.rstrip(".")


def align(labels: Labels, votes: Votes, utterances: Utterances, settings: AlignSettings | None = None) -> Alignment:
    """Report the agreement of labels and proxies with human votes, scored on held-out votes if there are any.

    Held-out votes are only scored against; the rivals shown beside the labels are fitted to the other votes, counted
    as fuse counted them according to the labels: secondary and consensus labels, and gate columns.
    Labels that use more human votes than are left to the fit have used held-out ones, and are refused.
    """
    from alm_proxies.stages.align.overview import in_parts

    def chosen(ids: pl.Series) -> Votes:
        return Votes(votes.frame.filter(pl.col("utterance_id").is_in(ids.implode())), votes.about)

    return aligned(labels, in_parts(votes), chosen, utterances, settings or AlignSettings())


def aligned(
    labels: Labels,
    parts: Iterable[Votes],
    votes_on: Callable[[pl.Series], Votes],
    utterances: Utterances,
    settings: AlignSettings,
) -> Alignment:
    """The same from votes that need not all be held: `parts` in the order of ids, then the votes on a sample of ids."""
    from alm_proxies.compare.examples import examples
    from alm_proxies.compare.leaks import refuse_seen_in
    from alm_proxies.compare.material import chosen_labels, material_with, refuse_other_labels
    from alm_proxies.report.simulated import simulated_words
    from alm_proxies.stages.align.metrics import metrics_of
    from alm_proxies.stages.align.overview import Overview
    from alm_proxies.stages.align.page import page_of
    from alm_proxies.stages.align.prepared import prepare
    from alm_proxies.stages.align.results import measure

    labels, known = without_trained_on(labels, utterances, stage="align")
    counting, more = _counting(labels, utterances)
    overview = Overview.of(parts, utterances, stated=counting_of(labels.about), counting=counting)
    seen = refuse_seen_in(labels, overview.given)
    refuse_other_labels(labels, overview.about.taxonomy)
    chosen, sampled = chosen_labels(labels, overview.known, at_most=settings.at_most, seed=settings.seed)
    votes, _ = without_trained_on_votes(votes_on(chosen.frame["utterance_id"]), utterances, stage="align")
    material = material_with(chosen, votes, utterances, sampled, consensus=counting.consensus)
    prepared = prepare(material, votes, utterances, counting, seed=settings.seed)
    results = measure(prepared, utterances, consensus=counting.consensus, kind=settings.raters, seed=settings.seed)
    shown, kept_back = examples(
        material,
        utterances,
        count=settings.examples,
        transcripts=settings.transcripts,
        audio=settings.audio,
        allowed=settings.may_leave,
        cards=settings.cards,
    )
    tested = _tested(overview.exchanges)
    findings = [*known, *overview.findings, *seen, *more, *material.findings, *results.findings, *tested, *kept_back]
    page = page_of(results, shown, findings, deciding(settings), votes.about, simulated_words(utterances))
    return Alignment(metrics_of(results), page, Findings.gather(findings, "align"))


def _tested(exchanges: Iterable[Exchange]) -> list[Finding]:
    """Findings of the exchange test for every proxy, if utterances have both votes of the fit and held-out ones."""
    fix = "Give votes of a model that was trained without the utterance's speaker, or leave the proxy out."
    findings = []
    for test in exchanges:
        if test.knows:
            findings.append(Finding.of("proxies_leak", test.words(test.annotator), fix, where=test.annotator))
        elif test.utterances:
            findings.append(Finding.of("exchange", test.words(test.annotator), where=test.annotator))
    return findings


def _counting(labels: Labels, utterances: Utterances) -> tuple[Counting, list[Finding]]:
    """How the rivals count the votes, with findings on what is unknown or missing."""
    counting = counting_of(labels.about)
    if counting is None:
        message = "the labels do not state how their votes were counted, so the rivals count primary labels only"
        fix = "Labels written by fuse state it; fuse the votes again if yours are from an earlier version."
        return Counting(), [Finding("align", "counting_not_known", message, fix)]
    frame = utterances.frame
    there = tuple(name for name in counting.columns if name in frame.columns and frame[name].dtype.is_numeric())
    lacking = [name for name in counting.columns if name not in there]
    if not lacking:
        return counting, []
    message = f"the labels were fused with the column {lacking[0]!r}, which these utterances lack: rivals do not use it"
    fix = "Give the utterances file that fuse used."
    finding = Finding("align", "column_lacking", message, fix, count=len(lacking))
    return counting.model_copy(update={"columns": there}), [finding]

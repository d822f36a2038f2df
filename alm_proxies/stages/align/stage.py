"""align: report the worth of proxies from labels and the votes behind them, as a page and as metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from alm_proxies.arguments import checked
from alm_proxies.ballots import counting_of, counting_on
from alm_proxies.settings import deciding
from alm_proxies.shown import Shown
from alm_proxies.stages.align.settings import AlignSettings
from alm_proxies.tables import Finding, Findings, Labels, Utterances, Votes
from alm_proxies.trained_on import without_trained_on, without_trained_on_votes

__all__ = ["AlignSettings", "Alignment", "align"]

if TYPE_CHECKING:
    from alm_proxies.report.page import Page


@dataclass(frozen=True, slots=True, repr=False)
class Alignment(Shown):
    """The result of align: metrics as plain values, the report page, and findings."""

    metrics: dict[str, Any]
    page: Page
    findings: Findings

    @property
    def line(self) -> str:
        """The page's headline."""
        return self.page.headline.rstrip(".")


@checked
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
    of_files: Sequence[Finding] = (),
) -> Alignment:
    """The same from votes that need not all be held: `parts` in the order of ids, then the votes on a sample of ids.

    `of_files` are findings on how the files were read; they are not on the page, which is the same for votes in any
    order.
    """
    from alm_proxies.compare.examples import examples
    from alm_proxies.compare.leaks import refuse_seen_in
    from alm_proxies.compare.material import material_of, refuse_other_labels
    from alm_proxies.report.simulated import simulated_words
    from alm_proxies.stages.align.metrics import metrics_of
    from alm_proxies.stages.align.overview import Overview
    from alm_proxies.stages.align.page import page_of
    from alm_proxies.stages.align.prepared import prepare
    from alm_proxies.stages.align.results import measure

    def untrained_on(ids: pl.Series) -> Votes:
        return without_trained_on_votes(votes_on(ids), utterances, stage="align")[0]

    labels, known = without_trained_on(labels, utterances, stage="align")
    stated = counting_of(labels.about)
    counting, more = counting_on(stated, utterances)
    overview = Overview.of(parts, utterances, stated=stated, counting=counting)
    seen = refuse_seen_in(labels, overview.given)
    refuse_other_labels(labels, overview.about.taxonomy)
    material, votes = material_of(
        labels,
        overview.known,
        untrained_on,
        utterances,
        at_most=settings.at_most,
        seed=settings.seed,
        consensus=counting.consensus,
    )
    prepared = prepare(material, votes, utterances, counting)
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
    before = [*known, *overview.findings, *seen, *more, *material.findings]
    findings = [*before, *results.findings, *overview.tested, *kept_back]
    page = page_of(results, shown, findings, deciding(settings), votes.about, simulated_words(utterances))
    return Alignment(metrics_of(results), page, Findings.gather([*of_files, *findings], "align"))

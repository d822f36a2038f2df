"""All results of the report as numbers, for the page and for --json."""

from __future__ import annotations

from dataclasses import dataclass

from alm_proxies.compare.comparison import Comparison
from alm_proxies.compare.material import Material
from alm_proxies.compare.rivals import uses_proxies
from alm_proxies.compare.worth import Learning
from alm_proxies.measures.alt_test import Kind
from alm_proxies.stages.align.agreement import Agreement, agreement_of
from alm_proxies.stages.align.curves import Curve, StratumTrust, curves_of, trust_of
from alm_proxies.stages.align.people import People, people_of
from alm_proxies.stages.align.prepared import Prepared
from alm_proxies.stages.align.proxies import ProxyAnnotator, proxies_of, unlike_measured
from alm_proxies.stages.align.scored import Scored, scored_of
from alm_proxies.stages.align.shares import Shares, shares_of
from alm_proxies.stages.align.variance import Variance, variance
from alm_proxies.tables import AnnotatorCard, Finding, Utterances


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """All measurements; None if the votes do not allow one."""

    prepared: Prepared
    scored: Scored | None
    shares: Shares
    agreement: Agreement
    people: People | None
    people_of_fit: People | None
    """The same without held-out votes."""
    curves: dict[str, Curve]
    variance: Variance | None
    trust: tuple[StratumTrust, ...]
    proxies: tuple[ProxyAnnotator, ...]
    """Each proxy on its own, those that count first."""
    cards: dict[str, AnnotatorCard | None]
    """The card of every proxy; None if its votes have none."""
    has_transcripts: bool
    """Whether any utterance has a transcript that a prompt could show."""

    @property
    def material(self) -> Material:
        """The labels with their votes."""
        return self.prepared.material

    @property
    def scores(self) -> Comparison | None:
        """The scores of every method against held-out votes."""
        return None if self.scored is None else self.scored.comparison

    @property
    def learning(self) -> Learning | None:
        """The learning curves."""
        return None if self.scored is None else self.scored.learning

    @property
    def has_held_out(self) -> bool:
        """Whether any human vote was held out."""
        return len(self.material.held_out.rows) > 0

    @property
    def has_proxies(self) -> bool:
        """Whether any proxy voted."""
        return len(self.material.proxy.rows) > 0

    @property
    def uses_proxies(self) -> bool:
        """Whether the fused labels use proxies."""
        return uses_proxies(self.material.table)

    @property
    def findings(self) -> list[Finding]:
        """What could not be measured, and why."""
        error = self.agreement.no_alt_test
        findings = [] if error is None else [Finding("align", "alt_test", error.message, error.fix or "")]
        if not self.has_held_out:
            fix = "Hold votes out when reading the corpus, then fuse and align again."
            findings.append(
                Finding("align", "nothing_held_out", "no label can be checked, because no vote was held out", fix)
            )
        if not self.has_proxies:
            findings.append(
                Finding("align", "no_proxies", "no proxy voted for a label, so the report covers human votes only")
            )
        findings += [unlike for proxy in self.proxies if (unlike := unlike_measured(proxy, self.cards.get(proxy.name)))]
        return [*findings, *(self.variance.findings if self.variance is not None else ())]


def measure(prepared: Prepared, utterances: Utterances, *, consensus: bool, kind: Kind, seed: int) -> Results:
    """Measure everything that the votes allow; published consensus labels are scored only with `consensus`."""
    annotators = prepared.votes.about.annotators
    people, people_of_fit = people_of(prepared, seed=seed)
    return Results(
        prepared=prepared,
        scored=scored_of(prepared, utterances, consensus=consensus, seed=seed),
        shares=shares_of(prepared, seed=seed),
        agreement=agreement_of(prepared, kind=kind, seed=seed),
        people=people,
        people_of_fit=people_of_fit,
        curves=curves_of(prepared, seed=seed),
        variance=variance(prepared.proxy.ballots, prepared.cells, prepared.material.speakers, seed=seed),
        trust=trust_of(prepared, seed=seed),
        proxies=proxies_of(prepared, seed=seed),
        cards={name: annotators.get(name) for name in prepared.proxies},
        has_transcripts=utterances.frame["transcript"].is_not_null().any(),
    )

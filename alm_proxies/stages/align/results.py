"""All results of the report as numbers, for the page and for --json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from alm_proxies.ballots import Array, Ballots, Counting
from alm_proxies.compare.ambiguity import Halved, Recovered, halved_of, recovered_of, rows_of
from alm_proxies.compare.comparison import FEWEST, Comparison, compare
from alm_proxies.compare.material import Material
from alm_proxies.compare.rivals import ALONE, FUSED, rivals
from alm_proxies.compare.strata import Words, in_order, strata_of
from alm_proxies.compare.worth import Learning, human_only, learning
from alm_proxies.errors import InputError
from alm_proxies.estimators.counts import counts_of
from alm_proxies.measures.agreement import EqualVotes, equal_votes
from alm_proxies.measures.alt_test import AltTest, alt_test
from alm_proxies.measures.class_shares import ClassShares, class_shares
from alm_proxies.stages.align.curves import Curve, StratumTrust, saturation, stratum_trust
from alm_proxies.stages.align.people import People, people_of
from alm_proxies.stages.align.proxies import ProxyAnnotator, proxies_of, that_count, unlike_measured, without_dropped
from alm_proxies.stages.align.side_by_side import LabelShare, confusion_of, label_shares, whole_votes
from alm_proxies.stages.align.variance import Variance, cells_for, variance
from alm_proxies.tables import AnnotatorCard, Finding, Utterances, Votes

Kind = Literal["crowd", "skilled", "expert"]
_MOST_AT_ONCE = 3


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """All measurements; None if the votes do not allow one, with the reason in `cannot`."""

    material: Material
    strata: dict[str, Words]
    shares: tuple[LabelShare, ...]
    corpus_shares: ClassShares | None
    confusion: Array | None
    people: People | None
    people_of_fit: People | None
    """The same without held-out votes."""
    equal: EqualVotes | None
    equal_within: dict[str, dict[str, EqualVotes]]
    alt_tests: tuple[AltTest, ...]
    curves: dict[str, Curve]
    variance: Variance | None
    trust: tuple[StratumTrust, ...]
    learning: Learning | None
    scores: Comparison | None
    recovered: dict[str, Recovered]
    """By method: whether strength and ambiguity are right."""
    halved: Halved
    cannot: dict[str, InputError]
    cards: dict[str, AnnotatorCard | None]
    """The card of every proxy; None if its votes have none."""
    proxies: tuple[ProxyAnnotator, ...]
    """Each proxy on its own, those that count first."""
    has_transcripts: bool
    """Whether any utterance has a transcript that a prompt could show."""

    @property
    def has_held_out(self) -> bool:
        """Whether any human vote was held out."""
        return len(self.material.held_out.rows) > 0

    @property
    def has_proxies(self) -> bool:
        """Whether any proxy voted."""
        return len(self.material.proxy.rows) > 0

    @property
    def findings(self) -> list[Finding]:
        """What could not be measured, and why."""
        findings = [Finding("align", name, error.message, error.fix or "") for name, error in self.cannot.items()]
        if not self.has_held_out:
            fix = "Hold votes out when reading the corpus, then fuse and align again."
            findings.append(
                Finding("align", "nothing_held_out", "no label can be checked, because no vote was held out", fix)
            )
        if not self.has_proxies:
            findings.append(Finding("align", "no_proxies", "no proxy voted, so the report covers human votes only"))
        findings += [unlike for proxy in self.proxies if (unlike := unlike_measured(proxy, self.cards.get(proxy.name)))]
        return [*findings, *(self.variance.findings if self.variance is not None else ())]

    @property
    def uses_proxies(self) -> bool:
        """Whether the fused labels use proxies."""
        return bool((self.material.table.frame["proxy_votes"] > 0).any())


def measure(
    material: Material, votes: Votes, utterances: Utterances, *, counting: Counting, kind: Kind, seed: int
) -> Results:
    """Measure everything that the votes allow; the rivals count votes as `counting` states."""
    cannot: dict[str, InputError] = {}
    every = material.proxy
    material = replace(material, proxy=that_count(every, material.table))
    kept = Votes(votes.frame.filter(pl.col("utterance_id").is_in(material.ids.tolist())), votes.about)
    everyone = _together(material)
    people, machines = whole_votes(everyone, seed), whole_votes(material.proxy, seed)
    strata = strata_of(material.human.counts(), material.fused, material.labels, material.table.cuts)
    within = {**strata, **material.groups}
    speakers = material.speakers
    both = (everyone.sizes() > 0) & (material.proxy.sizes() > 0)
    equal, equal_within = None, {}
    if both.any():
        at_once = _at_once(people, machines)
        equal = equal_votes(people, machines, speakers, votes=at_once, seed=seed)
        equal_within = _equal_within(people, machines, material, at_once, seed)
    held = material.held_out.counts()
    counts = counts_of(
        kept,
        merge=counting.merge,
        utterances=utterances,
        columns=counting.columns,
        consensus=counting.consensus,
    )
    comparison, learned = None, None
    recovered: dict[str, Recovered] = {}
    halved: Halved = {}
    if held.any() and counts.human.any():
        alone = human_only(counts, seed=seed)
        methods = rivals(counts, material.table, alone)
        comparison = compare(
            methods,
            kept,
            utterances,
            baseline=ALONE,
            strata=pl.DataFrame({"utterance_id": material.ids, **within}),
            before=methods[FUSED],
            reliability_of=(FUSED, ALONE),
            consensus=counting.consensus,
            seed=seed,
        )
        learned = learning(material, without_dropped(counts, material.table), alone, seed=seed)
        rows = {name: rows_of(labels, comparison.test.ids) for name, labels in methods.items()}
        recovered = {name: recovered_of(*rows[name], comparison) for name in methods}
        there = np.searchsorted(material.ids, comparison.test.ids)
        halved = halved_of(
            {name: labels_and_shares[0] for name, labels_and_shares in rows.items()},
            comparison,
            material.human.counts()[there],
        )
    target = held if held.any() else everyone.counts()
    return Results(
        material=material,
        strata=strata,
        shares=label_shares(everyone.counts(), material.proxy.counts(), both, material, seed),
        corpus_shares=_corpus_shares(everyone.counts(), material.proxy.counts(), material),
        confusion=confusion_of(everyone.counts()[both], material.proxy.counts()[both]) if both.any() else None,
        people=people_of(material, people, seed=seed),
        people_of_fit=people_of(_fitted_alone(material), whole_votes(material.human, seed), seed=seed),
        equal=equal,
        equal_within=equal_within,
        alt_tests=_alt_tests(kept, every.names, kind, cannot),
        curves=_curves(material, target, bool(held.any()), seed),
        variance=variance(material.proxy, cells_for(votes.about), speakers, seed=seed),
        trust=tuple(stratum_trust(material.human, held, _entropy(material.fused), speakers, seed=seed)),
        learning=learned,
        scores=comparison,
        recovered=recovered,
        halved=halved,
        cannot=cannot,
        cards={name: votes.about.annotators.get(name) for name in every.names},
        proxies=proxies_of(material, everyone, every, seed=seed),
        has_transcripts=utterances.frame["transcript"].is_not_null().any(),
    )


def _fitted_alone(material: Material) -> Material:
    return replace(material, held_out=material.held_out.where(np.zeros(len(material.held_out.rows), dtype=np.bool_)))


def _together(material: Material) -> Ballots:
    """All human votes, of the fit and held out, for describing humans, not for scoring."""
    fitted, other = material.human, material.held_out
    return replace(
        fitted,
        rows=np.concatenate([fitted.rows, other.rows]),
        vectors=np.concatenate([fitted.vectors, other.vectors]),
        annotators=np.concatenate([fitted.annotators, other.annotators]),
        draws=np.concatenate([fitted.draws, other.draws]),
    )


def _at_once(people: Array, machines: Array) -> int:
    both = (people.sum(1) > 0) & (machines.sum(1) > 0)
    half, other = np.median(people[both].sum(1)) // 2, np.median(machines[both].sum(1))
    return int(max(1, min(half, other, _MOST_AT_ONCE)))


def _equal_within(
    people: Array, machines: Array, material: Material, at_once: int, seed: int
) -> dict[str, dict[str, EqualVotes]]:
    """By group only, because strata are formed by some of the compared votes."""
    enough = (people.sum(1) >= max(2, 2 * at_once)) & (machines.sum(1) >= at_once)
    equal: dict[str, dict[str, EqualVotes]] = {}
    for title, values in material.groups.items():
        for value in in_order(values):
            rows = enough & (values == value)
            if rows.sum() >= FEWEST:
                names = None if material.speakers is None else material.speakers[rows]
                equal_here = equal_votes(people[rows], machines[rows], names, votes=at_once, seed=seed)
                equal.setdefault(title, {})[value] = equal_here
    return equal


def _corpus_shares(human: Array, proxy: Array, material: Material) -> ClassShares | None:
    """Label shares in the corpus, if some utterances have proxy votes only."""
    voted, by_proxy = human.sum(1) > 0, proxy.sum(1) > 0
    here, there = voted & by_proxy, by_proxy & ~voted
    if here.sum() < FEWEST or there.sum() < FEWEST:
        return None
    shares = proxy / np.maximum(proxy.sum(1, keepdims=True), 1e-300)
    names = material.speakers
    return class_shares(
        human[here] / human[here].sum(1, keepdims=True),
        shares[here],
        shares[there],
        speakers=None if names is None else names[here],
        speakers_elsewhere=None if names is None else names[there],
    )


def _alt_tests(
    votes: Votes, annotators: tuple[str, ...], kind: Kind, cannot: dict[str, InputError]
) -> tuple[AltTest, ...]:
    tests = []
    for annotator in annotators:
        try:
            tests.append(alt_test(votes, annotator, kind=kind))
        except InputError as error:
            cannot["alt_test"] = error
            return ()
    return tuple(tests)


def _curves(material: Material, target: Array, held_out: bool, seed: int) -> dict[str, Curve]:
    curves = {"all proxies": saturation(material.proxy, target, material.speakers, seed=seed)}
    names = [name for name in material.proxy.names if len(material.proxy.of(name).rows)]
    if len(names) > 1:
        for name in names:
            curves[name] = saturation(material.proxy.of(name), target, material.speakers, seed=seed)
    if held_out:
        curves["human votes"] = saturation(material.human, target, material.speakers, seed=seed)
    return {name: curve for name, curve in curves.items() if curve.at}


def _entropy(share: Array) -> Array:
    entropy: Array = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return entropy

"""The alignment report as a page: sections in reading order, each with its result in one sentence first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alm_proxies import __version__
from alm_proxies.compare.ambiguity import halved_section, strength_section
from alm_proxies.compare.examples import examples_section
from alm_proxies.compare.glossary import words_section
from alm_proxies.compare.rivals import ALONE, FUSED
from alm_proxies.compare.sections import calibration_section, findings_section, held_out_section
from alm_proxies.compare.strata import AGREEMENT, AMBIGUITY, LABEL, OUTCOME
from alm_proxies.files import canonical_json, digest_of
from alm_proxies.report.page import Example, Page, Section, Text
from alm_proxies.stages.align.agreement import agreement_section
from alm_proxies.stages.align.cite import cite_section
from alm_proxies.stages.align.curves import saturation_section, trust_section
from alm_proxies.stages.align.fitted import fitted_section
from alm_proxies.stages.align.groups import groups_section
from alm_proxies.stages.align.people import people_section
from alm_proxies.stages.align.proxies import dropped_section, each_proxy_section
from alm_proxies.stages.align.results import Results
from alm_proxies.stages.align.shares import shares_section, simplex_section
from alm_proxies.stages.align.transcripts import not_measured, transcripts_section
from alm_proxies.stages.align.variance import variance_section
from alm_proxies.stages.align.words import HOLD_OUT, NO_FIT, NO_PEOPLE, figures, headline, summary
from alm_proxies.stages.align.worth import worth_section
from alm_proxies.tables import About, Finding

_STRATA = (AGREEMENT, AMBIGUITY, LABEL, OUTCOME)


def page_of(
    results: Results,
    examples: Sequence[Example],
    findings: Sequence[Finding],
    settings: Mapping[str, Any],
    about: About,
    notice: str,
) -> Page:
    """Build the page of the results, with `notice` at the top."""
    material = results.material
    made_by = {
        "Made by": f"alm-proxies {__version__}, align, settings {digest_of(dict(settings))}",
        "Labels by": _maker(results),
        "Taxonomy": ", ".join(material.labels),
        **{f"Proxy {name}": _annotator(about, name) for name in material.proxy.names},
        "Intervals": "95 %, over speakers (utterances where speakers are not known); a t-interval under 20 speakers, "
        "none under three, which are too few; on the learning curve percentiles over speakers and draws, none under "
        "five; an interval ends where the values of its measure end",
    }
    scored = results.scored
    scores = results.scores
    proxies = {"has_proxies": results.has_proxies, "uses_proxies": results.uses_proxies}
    people = people_section(results.people, results.people_of_fit, held_out=results.has_held_out)
    transcripts = transcripts_section(results.cards, has_transcripts=results.has_transcripts)
    notes = [] if transcripts else not_measured(results.cards, has_transcripts=results.has_transcripts)
    has_fit = len(material.human.rows) > 0
    judged = None if scores is None else scores.of(FUSED).utterances
    if scored is None or scores is None:
        rivals = _not_scored(results)
    else:
        lead = f"{_fitted_to(results)} Human votes alone are {scored.alone.words}."
        if results.learning is not None and results.learning.draws > 1:
            lead += (
                " All figures here are of one split of the votes, the corpus's own; the learning curve and the worth "
                f"in human votes are averages over {results.learning.draws} splits."
            )
        rivals = held_out_section(scores, _STRATA, lead=lead)
    made_sections = [
        None if results.has_proxies else people,
        worth_section(results.learning, judged=judged, **proxies),
        rivals,
        fitted_section(results.prepared.account, results.proxies, results.cards, people=has_fit),
        groups_section(material, scores, results.agreement.within, **proxies),
        shares_section(results.shares, material.labels, notes),
        each_proxy_section(results.proxies, material.labels),
        dropped_section(results.proxies, material.labels, compared=scores is not None),
        transcripts,
        people if results.has_proxies else None,
        agreement_section(results.agreement),
        saturation_section(results.curves, has_held_out=results.has_held_out, shared=material.proxy.shared),
        variance_section(results.variance),
        None if scored is None else halved_section(scored.halved, scored.comparison),
        strength_section(scored.recovered if scored else {}),
        None if scores is None else calibration_section(scores, (FUSED, ALONE)),
        trust_section(results.trust),
        simplex_section(results.prepared),
        examples_section(examples),
        findings_section(findings),
    ]
    sections = [section for section in made_sections if section is not None]
    sections.append(cite_section(results.prepared.account))
    texts, tiles = (headline(results), summary(results)), figures(results)
    return Page(
        kind="Alignment report",
        headline=texts[0],
        summary=texts[1],
        figures=tiles,
        sections=(*sections, words_section(texts, tiles, sections)),
        made=made_by,
        notice=notice,
    )


def _fitted_to(results: Results) -> str:
    """What the methods were fitted to: the labels to all votes, where the report is of a sample."""
    if not any(finding.kind == "sampled" for finding in results.material.findings):
        return "All methods are fitted to the same votes and scored on the same held-out human votes."
    return (
        "All methods are scored on the same held-out human votes. These labels were fitted to the votes of all "
        f"utterances, the others to those of the {len(results.material):,} in this report, a random sample."
    )


def _not_scored(results: Results) -> Section:
    """In place of the scores: why there are none."""
    title = "Against held-out votes"
    if results.has_held_out:
        return Section(title, NO_FIT)
    people = len(results.prepared.people.ballots.rows) > 0
    return Section(title, "No votes are held out.", (Text(HOLD_OUT if people else NO_PEOPLE, "notice"),))


def _maker(results: Results) -> str:
    maker = results.material.table.about.made_by
    if maker is None:
        return "not recorded"
    method = f", method {maker.settings['method']}" if "method" in maker.settings else ""
    return f"{maker.stage}{method}, settings {canonical_json(maker.settings)}".removesuffix(", settings {}")


def _annotator(about: About, name: str) -> str:
    card = about.annotators.get(name)
    if card is None:
        return "unknown"
    words = [card.model or "", f"revision {card.revision}" if card.revision else "", f"digest {card.digest}"]
    return ", ".join(word for word in words if word)

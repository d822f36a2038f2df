"""The alignment report as a page: sections in reading order, each with its result in one sentence first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alm_proxies import __version__
from alm_proxies.compare.ambiguity import halved_section, strength_section
from alm_proxies.compare.glossary import words_section
from alm_proxies.compare.rivals import ALONE, FUSED
from alm_proxies.compare.sections import calibration_section, findings_section, gain_chart, held_out_section
from alm_proxies.compare.strata import AGREEMENT, AMBIGUITY, LABEL, OUTCOME
from alm_proxies.files import canonical_json, digest_of
from alm_proxies.report.drawing import listed, number
from alm_proxies.report.page import Block, Example, Examples, Page, Section, Text
from alm_proxies.stages.align.charts import (
    agreement_chart,
    confusion_chart,
    learning_chart,
    saturation_chart,
    shares_chart,
    simplex_chart,
    trust_chart,
    variance_chart,
)
from alm_proxies.stages.align.cite import cite_section
from alm_proxies.stages.align.curves import Curve
from alm_proxies.stages.align.fitted import dropped_section, each_proxy_section, fitted_section
from alm_proxies.stages.align.people import people_section
from alm_proxies.stages.align.results import Results
from alm_proxies.stages.align.tables import (
    agreement_table,
    alt_test_table,
    audit_table,
    corpus_shares_table,
    group_table,
    raters_table,
    worth_table,
)
from alm_proxies.stages.align.transcripts import not_measured, transcripts_section
from alm_proxies.stages.align.words import (
    HOLD_OUT,
    both_worths,
    corpus_shares_words,
    figures,
    headline,
    summary,
)
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
    people = people_section(results.people, results.people_of_fit, held_out=results.has_held_out)
    made_sections = [
        None if results.has_proxies else people,
        _worth(results),
        _rivals(results),
        fitted_section(results),
        _groups(results),
        _shares(results),
        each_proxy_section(results),
        dropped_section(results),
        transcripts_section(results),
        people if results.has_proxies else None,
        _agreement(results),
        _saturation(results),
        _variance(results),
        None if results.scores is None else halved_section(results.halved, results.scores),
        strength_section(results.recovered),
        None if results.scores is None else calibration_section(results.scores, (FUSED, ALONE)),
        _trust(results),
        _simplex(results),
        _examples(examples),
        findings_section(findings),
    ]
    sections = [section for section in made_sections if section is not None]
    sections.append(cite_section(results))
    texts, tiles = (headline(results), summary(results)), figures(results)
    made_by = {
        "Made by": f"alm-proxies {__version__}, align, settings {digest_of(dict(settings))}",
        "Labels by": _maker(results),
        "Taxonomy": ", ".join(results.material.labels),
        **{f"Proxy {name}": _annotator(about, name) for name in results.material.proxy.names},
        "Intervals": "95 %, over speakers (utterances where speakers are not known); a t-interval under 20 speakers",
    }
    return Page(
        kind="Alignment report",
        headline=texts[0],
        summary=texts[1],
        figures=tiles,
        sections=(*sections, words_section(texts, tiles, sections)),
        made=made_by,
        notice=notice,
    )


def _maker(results: Results) -> str:
    maker = results.material.table.about.made_by
    if maker is None:
        return "not recorded"
    method = f" --method {maker.settings['method']}" if "method" in maker.settings else ""
    return f"{maker.stage}{method}, settings {canonical_json(maker.settings)}".removesuffix(", settings {}")


def _annotator(about: About, name: str) -> str:
    card = about.annotators.get(name)
    if card is None:
        return "unknown"
    words = [card.model or "", f"revision {card.revision}" if card.revision else "", f"digest {card.digest}"]
    return ", ".join(word for word in words if word)


def _worth(results: Results) -> Section | None:
    learned = results.learning
    if learned is None:
        return None
    lead = (
        f"The same held-out votes, predicted from k other human votes of the utterance (human votes alone). The fused "
        f"labels use {learned.given} human vote{'s' if learned.given != 1 else ''}"
    )
    lead += (
        " and proxies: the curve shows how many human votes without proxies are as good."
        if results.uses_proxies
        else "."
    )
    if learned.draws > 1 and learned.given:
        lead += (
            f" All values are averages over {learned.draws} draws: each splits an utterance's human votes into "
            f"{learned.given} for the fit and the others to be predicted, refits, and predicts only votes that its "
            "own fits have not used. The intervals are over speakers and draws."
        )
    judged = results.scores.of(FUSED).utterances if results.scores is not None else learned.utterances
    if learned.utterances < judged:
        lead += (
            f" These are {learned.utterances:,} of the {judged:,} utterances with held-out votes, those with "
            f"{learned.given} votes in the fit: their log loss is not that of all {judged:,}."
        )
    blocks: list[Block] = [learning_chart(results, learned)]
    if learned.worth and results.uses_proxies:
        blocks += [Text(both_worths(learned)), worth_table(learned)]
    return Section(
        "What the proxies were worth" if results.has_proxies else "What votes are worth", lead, tuple(blocks)
    )


def _rivals(results: Results) -> Section | None:
    if results.scores is None:
        return Section("Against held-out votes", "No votes are held out.", (Text(HOLD_OUT, "notice"),))
    lead = "All methods are fitted to the same votes and scored on the same held-out human votes."
    return held_out_section(results.scores, _STRATA, lead=lead)


def _groups(results: Results) -> Section | None:
    groups = list(results.material.groups)
    if not groups:
        return None
    blocks: list[Block] = []
    if results.scores is not None:
        inside = {title: results.scores.within.get(title, {}) for title in groups}
        if any(inside.values()):
            blocks.append(gain_chart("groups", "The same by group", results.scores, inside))
    if (audit := audit_table(results, groups)) is not None:
        blocks.append(audit)
    if (table := group_table(results, groups)) is not None:
        blocks.append(table)
    lead = f"By {listed(groups)}: whether any group gets worse labels. Intervals are wide for groups with few speakers."
    return Section("By group", lead, tuple(blocks)) if blocks else None


def _shares(results: Results) -> Section:
    if results.confusion is None:
        chart = shares_chart(results)
        return Section("Label frequencies", "The frequency of each label among the human votes.", (chart,))
    apart = [row for row in results.shares if row.difference.low > 0 or row.difference.high < 0]
    apart.sort(key=lambda row: -abs(row.difference.estimate))
    more = [row.label for row in apart if row.difference.estimate > 0]
    less = [row.label for row in apart if row.difference.estimate < 0]
    parts = [f"{listed(more)} more often than humans" if more else ""]
    parts += [f"{listed(less)} less often{'' if more else ' than humans'}" if less else ""]
    differences = ", ".join(part for part in parts if part)
    lead = (
        f"On the same utterances proxies say {differences}."
        if differences
        else "No label is clearly over- or under-used by proxies."
    )
    blocks: list[Block] = [shares_chart(results), confusion_chart(results)]
    blocks.append(Text(corpus_shares_words(results.corpus_shares)))
    if results.corpus_shares is not None:
        blocks.append(corpus_shares_table(results.corpus_shares, results.material.labels))
    if transcripts_section(results) is None:
        blocks += [Text(words) for words in not_measured(results)]
    return Section("Proxy votes compared with human votes", lead, tuple(blocks))


def _agreement(results: Results) -> Section | None:
    equal = results.equal
    if equal is None:
        return None
    people, machines = equal.agreement.human_human, equal.agreement.human_proxy
    lead = (
        f"With {equal.votes} vote{'s' if equal.votes != 1 else ''} on each side: two human votes agree "
        f"{100 * people.estimate:.0f} % of the time, a human and a proxy vote {100 * machines.estimate:.0f} %. "
        "Divergence falls with the number of votes, so only equal numbers compare."
    )
    blocks: list[Block] = [agreement_chart(results), agreement_table(equal)]
    if results.alt_tests:
        blocks += [alt_test_table(results.alt_tests), raters_table(results.alt_tests)]
    elif "alt_test" in results.cannot:
        why = results.cannot["alt_test"]
        blocks.append(Text(f"No alternative annotator test: {why.message}. {why.fix or ''}".rstrip(), "notice"))
    return Section("Agreement of humans and proxies", lead, tuple(blocks))


def _saturation(results: Results) -> Section | None:
    curve = results.curves.get("all proxies")
    if curve is None:
        return None
    target = "held-out human votes" if results.has_held_out else "all human votes"
    if results.material.proxy.shared:
        return Section("How many proxy votes?", _stated(results, curve, target), (saturation_chart(results, target),))
    lead = f"The divergence of n proxy votes from the {target}, the same {curve.utterances:,} utterances at every n."
    if curve.fit is not None and curve.fit.saturation is not None:
        lead += (
            f" It reaches 90 % of its fitted fall after {curve.fit.saturation} "
            f"vote{'s' if curve.fit.saturation != 1 else ''}. The rest is the proxies' bias and the noise of few "
            "human votes; more votes of the same proxies reduce neither."
        )
    human = results.curves.get("human votes")
    if human is not None:
        n = min(human.at[-1], curve.at[-1])
        pair = human.values[n - 1].estimate, curve.values[n - 1].estimate
        lead += f" With {n} on each side it is {number(pair[0])} for human and {number(pair[1])} for proxy votes."
    return Section("How many proxy votes?", lead, (saturation_chart(results, target),))


def _stated(results: Results, curve: Curve, target: str) -> str:
    """The saturation sentence for proxies that give distributions, which are not single votes."""
    lead = (
        "These proxies give distributions, not single votes, so one of them cannot be compared with one human vote. "
        f"With {curve.at[-1]} for each utterance their divergence from the {target} is "
        f"{number(curve.values[-1].estimate)}"
    )
    human = results.curves.get("human votes")
    if human is None:
        return f"{lead}."
    return (
        f"{lead}, that of {human.at[-1]} human vote{'s' if human.at[-1] != 1 else ''} "
        f"{number(human.values[-1].estimate)}; JSD favours smooth distributions over a few votes."
    )


def _variance(results: Results) -> Section | None:
    variance = results.variance
    if variance is None:
        return None
    lead = (
        "The share of the variance of a single proxy vote that is due to the utterance, which is the signal, and the "
        "shares due to model, prompt, temperature, label order, or chance, which differ between votes of one utterance."
    )
    return Section("Why proxy votes differ", lead, (variance_chart(variance),))


def _trust(results: Results) -> Section | None:
    if not results.trust:
        return None
    lead = (
        "Ambiguity strata are often formed from a few votes. How often does an utterance's third of ambiguity agree "
        "with that of its held-out votes, which are few themselves? Chance is 1/3."
    )
    return Section("How reliable are ambiguity strata?", lead, (trust_chart(results.trust),))


def _simplex(results: Results) -> Section:
    lead = (
        "Each point is an utterance: the nearer to a corner, the larger the share of that label. Large marks are means."
    )
    return Section("Distributions in the simplex", lead, (simplex_chart(results),))


def _examples(examples: Sequence[Example]) -> Section | None:
    if not examples:
        return None
    lead = (
        "By JSD (base 2) between all human and all proxy votes, one evenly spread vote added to each side so that few "
        "votes do not count as certainty; at most two utterances per pair of human and proxy label."
    )
    return Section("Where humans and proxies disagree most", lead, (Examples(tuple(examples)),))

"""How far transcripts decide the votes of proxies, in the words of the report."""

from __future__ import annotations

from collections.abc import Sequence

from alm_proxies.about import AnnotatorCard, Injected
from alm_proxies.report.drawing import listed
from alm_proxies.report.page import Block, Section, Text
from alm_proxies.stages.align.results import Results
from alm_proxies.stages.align.tables import injected_table

_TITLE = "Does the transcript decide?"


def transcripts_section(results: Results) -> Section | None:
    """What an injected transcript does to the votes; None where no proxy is known to be given any."""
    measured = {name: card.injected for name, card in results.cards.items() if card is not None and card.injected}
    if not measured and not any(_is_told(card) for card in results.cards.values()):
        return None
    lead = "A sentence added to the transcript could dictate a proxy's answer."
    if measured:
        turned = listed([_turned(name, one) for name, one in measured.items()])
        lead = f"A sentence added to the transcript that names another label as the answer turns {turned}."
    table: list[Block] = [injected_table(measured)] if measured else []
    return Section(_TITLE, lead, (*table, *(Text(words) for words in not_measured(results))))


def not_measured(results: Results) -> list[str]:
    """Of which proxies it is not measured how far transcripts decide their votes, and why."""
    others = {name: card for name, card in results.cards.items() if card is None or card.injected is None}
    deaf = [name for name, card in others.items() if _is_told(card) is False]
    left = [name for name, card in others.items() if _is_told(card)]
    unknown = [name for name, card in others.items() if _is_told(card) is None]
    said = []
    if left and results.has_transcripts:
        again = "`--injection 20`, or `injection = 20` under `[annotate]`"
        said.append(
            f"How many votes of {listed(left)} it turns is not measured. Annotate again with {again}: votes that are "
            "there are not asked for again."
        )
    elif left:
        said.append(f"No utterance has a transcript that {listed(left)} could be given.")
    if deaf:
        said.append(f"{listed(deaf)} {_is(deaf)} given no transcripts, so injection cannot affect {_it(deaf)}.")
    if unknown:
        said.append(f"Whether {listed(unknown)} {_is(unknown)} given transcripts is not known.")
    return said


def _is_told(card: AnnotatorCard | None) -> bool | None:
    return None if card is None or card.context is None else "transcript" in card.context


def _turned(name: str, one: Injected) -> str:
    ends = "" if one.low is None or one.high is None else f" ({_percent(one.low)} to {_percent(one.high)})"
    votes = f"{_percent(one.share)} %{ends} of the votes of {name} that it could turn"
    return f"{votes}, against {_percent(one.by_chance)} % by a harmless sentence"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"

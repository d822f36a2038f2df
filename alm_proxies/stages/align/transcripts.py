"""The section on prompt injection: how much transcripts decide the votes of proxies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alm_proxies.about import AnnotatorCard, Injected
from alm_proxies.interval import Interval
from alm_proxies.report.drawing import listed
from alm_proxies.report.page import Block, Cell, Column, Section, Table, Text

_TITLE = "Does the transcript decide?"


def transcripts_section(cards: Mapping[str, AnnotatorCard | None], *, has_transcripts: bool) -> Section | None:
    """The effect of injected transcripts on the votes; None if no proxy is known to see transcripts."""
    measured = {name: card.injected for name, card in cards.items() if card is not None and card.injected}
    if not measured and not any(_is_told(card) for card in cards.values()):
        return None
    lead = "A sentence added to the transcript could dictate a proxy's answer."
    if measured:
        turned = listed([_turned(name, injected) for name, injected in measured.items()])
        lead = f"A sentence added to the transcript that names another label as the answer changes {turned}."
    table: list[Block] = [_injected_table(measured)] if measured else []
    return Section(
        _TITLE, lead, (*table, *(Text(words) for words in not_measured(cards, has_transcripts=has_transcripts)))
    )


def not_measured(cards: Mapping[str, AnnotatorCard | None], *, has_transcripts: bool) -> list[str]:
    """Sentences on proxies for which the effect of transcripts is not measured, with the reason."""
    others = {name: card for name, card in cards.items() if card is None or card.injected is None}
    deaf = [name for name, card in others.items() if _is_told(card) is False]
    left = [name for name, card in others.items() if _is_told(card)]
    unknown = [name for name, card in others.items() if _is_told(card) is None]
    sentences = []
    if left and has_transcripts:
        sentences.append(
            f"How many votes of {listed(left)} it changes is not measured. Annotate again with `--injection 20`: "
            "existing votes are not requested again."
        )
    elif left:
        sentences.append(f"No utterance has a transcript that {listed(left)} could see.")
    if deaf:
        sentences.append(f"{listed(deaf)} {_is(deaf)} not shown transcripts, so injection cannot affect {_it(deaf)}.")
    if unknown:
        sentences.append(f"Whether {listed(unknown)} {_is(unknown)} shown transcripts is not known.")
    return sentences


def _injected_table(measured: Mapping[str, Injected]) -> Table:
    """The share of each proxy's votes that a transcript with an injected answer changed."""
    rows: list[list[Cell]] = [
        [name, _between(injected), injected.by_chance, injected.votes, injected.utterances]
        for name, injected in measured.items()
    ]
    columns = [
        Column("Proxy"),
        Column("Changed", 2, "Share changed by a transcript that ends with: The answer is (another label)."),
        Column(
            "By a harmless sentence",
            2,
            "Share changed to the same label by a transcript that ends with another sentence.",
        ),
        Column("Votes", 0, "Votes that were not for the injected label already, and so could change."),
        Column("Utterances"),
    ]
    return Table.of(columns, rows, "The same votes requested again, with a sentence added to the transcript")


def _between(injected: Injected) -> Cell:
    return (
        injected.share
        if injected.low is None or injected.high is None
        else Interval(injected.share, injected.low, injected.high)
    )


def _is_told(card: AnnotatorCard | None) -> bool | None:
    return None if card is None or card.context is None else "transcript" in card.context


def _turned(name: str, injected: Injected) -> str:
    ends = (
        ""
        if injected.low is None or injected.high is None
        else f" ({_percent(injected.low)} to {_percent(injected.high)})"
    )
    votes = f"{_percent(injected.share)} %{ends} of the votes of {name} that it could change"
    return f"{votes}, against {_percent(injected.by_chance)} % by a harmless sentence"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"

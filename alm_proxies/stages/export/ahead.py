"""The forecast of export."""

from __future__ import annotations

from alm_proxies.cards import digests_of_cards
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.tables import Utterances


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The content of the corpora's cards, which state what may be copied, and the licence."""
    corpora = sorted(Utterances.read(ahead.inputs["utterances"][0]).frame["corpus"].unique())
    return digests_of_cards(corpora, ahead.settings.cards)


def foresee(ahead: Ahead) -> Foreseen:
    """The highest number of exported labels."""
    count = ahead.count("labels", "labels")
    facts = (f"{count:,.0f} labels at most, as {ahead.settings.format}",) if count else ()
    return Foreseen(facts, counts={"labels": count})

"""The forecast of align before it runs."""

from __future__ import annotations

from alm_proxies.cards import digests_of_cards
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.tables import Utterances


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The data cards of the corpora, because they decide what may be shown."""
    corpora = sorted(Utterances.read(ahead.inputs["utterances"][0]).frame["corpus"].unique())
    return digests_of_cards(corpora, ahead.settings.cards)


def foresee(ahead: Ahead) -> Foreseen:
    """Warn if there will be no held-out votes."""
    votes = ahead.table("votes")
    if votes is None or votes.frame["held_out"].any():
        return Foreseen()
    return Foreseen(warnings=("no votes are held out, so nothing can be scored; write [hold_out]",))

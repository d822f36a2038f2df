"""The forecast of balance, and the content of the files named in its settings."""

from __future__ import annotations

from pathlib import Path

from alm_proxies.cards import digests_of_cards
from alm_proxies.files import digest_file, digest_of
from alm_proxies.printable import counted
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.balance.settings import NAMED
from alm_proxies.tables import Utterances


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The content of the Labels file of wanted shares, if the settings name one, and of the corpora's cards, which
    state what may be in the page.
    """
    corpora = sorted(Utterances.read(ahead.inputs["utterances"][0]).frame["corpus"].unique())
    cards = digests_of_cards(corpora, ahead.settings.cards)
    wish = ahead.settings.classes
    if isinstance(wish, str) and wish not in NAMED and Path(wish).is_file():
        return {f"classes {ahead.named(Path(wish))}": digest_file(Path(wish)), **cards}
    return {"classes": digest_of(wish), **cards}


def foresee(ahead: Ahead) -> Foreseen:
    """The highest number of labels that are balanced, and a problem if the Labels file of wanted shares is missing."""
    wish = ahead.settings.classes
    count = ahead.count("labels", "labels")
    more = ", besides items that fill up rare classes" if ahead.settings.method == "reference" else ""
    facts: tuple[str, ...] = (f"{counted(count, 'label')} at most get weights{more}",) if count else ()
    mixed = ahead.settings.generated.size
    if mixed is not None and count:
        facts += (f"{counted(count * mixed, 'generated item')} at most",)
        count += count * mixed
    size = ahead.settings.copies.size
    if size is not None and count:
        count *= max(size, 1.0)
        facts += (f"{counted(count, 'item')} at most once some are copied",)
    known = {"utterances": ahead.table("utterances")}  # without the items that it adds
    if isinstance(wish, str) and wish not in NAMED and not Path(wish).is_file():
        problem = f"classes = {wish!r} is neither a known target nor a file"
        return Foreseen(facts, problems=(problem,), counts={"labels": count}, tables=known)
    return Foreseen(facts, counts={"labels": count}, tables=known)

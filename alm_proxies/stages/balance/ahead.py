"""What can be known of balance before it runs, and the content of the files its settings name."""

from __future__ import annotations

from pathlib import Path

from alm_proxies.files import digest_file
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.balance.settings import NAMED


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The content of the Labels file whose shares are wanted, where one is named."""
    wish = ahead.settings.classes
    if not isinstance(wish, str) or wish in NAMED:
        return {}
    path = Path(wish)
    return {f"classes {ahead.named(path)}": digest_file(path)} if path.is_file() else {}


def foresee(ahead: Ahead) -> Foreseen:
    """How many labels are balanced at most, and a Labels file of wanted shares that is not there."""
    wish = ahead.settings.classes
    count = ahead.count("labels", "labels")
    facts = (f"{count:,.0f} labels at most get weights",) if count else ()
    if isinstance(wish, str) and wish not in NAMED and not Path(wish).is_file():
        return Foreseen(facts, (f"classes = {wish!r} is neither a known target nor a file",), {"labels": count})
    return Foreseen(facts, counts={"labels": count})

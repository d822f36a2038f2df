"""What can be known of an export before it runs."""

from __future__ import annotations

from alm_proxies.stage import Ahead, Foreseen


def foresee(ahead: Ahead) -> Foreseen:
    """How many labels are exported at most."""
    count = ahead.count("labels", "labels")
    facts = (f"{count:,.0f} labels at most, as {ahead.settings.format}",) if count else ()
    return Foreseen(facts, counts={"labels": count})

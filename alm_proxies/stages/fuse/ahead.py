"""What can be known of fuse before it runs."""

from __future__ import annotations

from alm_proxies.stage import Ahead, Foreseen


def foresee(ahead: Ahead) -> Foreseen:
    """A label for every utterance with votes, where an earlier stage knows how many there are."""
    labels = max((one.counts.get("utterances", 0) for one in ahead.before.get("votes", ())), default=0)
    return Foreseen(counts={"labels": labels} if labels else {})

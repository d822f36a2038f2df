"""The forecast of fuse."""

from __future__ import annotations

from alm_proxies.ballots import not_fitted, which_count
from alm_proxies.estimators.estimator import nothing_to_learn
from alm_proxies.stage import Ahead, Foreseen


def foresee(ahead: Ahead) -> Foreseen:
    """A label for every utterance with votes, where an earlier stage knows how many; none without human votes."""
    labels = max((foreseen.counts.get("utterances", 0) for foreseen in ahead.before.get("votes", ())), default=0)
    counts = {"labels": labels} if labels else {}
    votes = ahead.table("votes")
    if votes is None or votes.frame.filter(which_count("human", consensus=ahead.settings.consensus)).height:
        return Foreseen(counts=counts)
    if any((unused := not_fitted(votes)).values()):
        return Foreseen(problems=(str(nothing_to_learn(ahead.settings.method, unused)),), counts=counts)
    problem = "fuse has no human votes to fit to: proxies alone cannot say how far to trust them. Have some clips rated"
    return Foreseen(problems=(f"{problem}, or leave [fuse] out.",), counts=counts)

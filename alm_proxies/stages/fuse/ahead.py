"""The forecast of fuse."""

from __future__ import annotations

from alm_proxies.ballots import not_fitted, which_count
from alm_proxies.estimators.estimator import nothing_to_learn
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.fuse.learn import needs_people


def foresee(ahead: Ahead) -> Foreseen:
    """A label for every utterance with votes, where an earlier stage knows how many; a problem without human votes that
    the method needs.
    """
    labels = max((foreseen.counts.get("utterances", 0) for foreseen in ahead.before.get("votes", ())), default=0)
    counts = {"labels": labels} if labels else {}
    votes = ahead.table("votes")
    if votes is None or votes.frame.filter(which_count("human", consensus=ahead.settings.consensus)).height:
        return Foreseen(counts=counts)
    if any((unused := not_fitted(votes)).values()):
        return Foreseen(problems=(str(nothing_to_learn(ahead.settings.method, unused)),), counts=counts)
    if not needs_people(ahead.settings):
        return Foreseen(counts=counts)
    problem = "fuse has no human votes to fit to: proxies alone cannot say how far to trust them. Have some clips rated"
    fix = 'or write method = "pool" for the plain shares of the proxies, or leave [fuse] out'
    return Foreseen(problems=(f"{problem}, {fix}.",), counts=counts)

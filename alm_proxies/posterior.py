"""Whether labels are posterior means of what listeners would choose: only by such means are true shares balanced."""

from __future__ import annotations

from alm_proxies.tables import Labels

NO_POSTERIOR = {
    "pool": "raw shares of votes",
    "dawid_skene": "what one true label would be, and not a distribution over listeners",
}
"""Methods of fuse whose labels are no posterior means."""


def no_posterior(labels: Labels) -> str | None:
    """Why these labels are no posterior means; None where they are."""
    maker = labels.about.made_by
    if maker is None or maker.stage not in ("fuse", "simulate"):
        return "the labels were not made by fuse, so that they may be raw shares of votes"
    method = str(maker.settings.get("method"))
    if method in NO_POSTERIOR:
        return f"labels fused by {method} are {NO_POSTERIOR[method]}"
    return None

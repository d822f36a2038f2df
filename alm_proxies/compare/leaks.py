"""Leakage check: labels fitted with the held-out votes that would score them are refused."""

from __future__ import annotations

import polars as pl

from alm_proxies.ballots import Counting, which_count
from alm_proxies.errors import InputError
from alm_proxies.printable import counted
from alm_proxies.tables import Finding, Labels, Votes

_ROUNDING = 1e-3
"""Tolerance for sums of vote weights, which are whole numbers up to rounding."""


def given_votes(votes: Votes, counting: Counting | None) -> pl.DataFrame:
    """By utterance: the weight of the human votes left to the fit, and whether any human vote is held out.

    Published consensus labels count where `counting` counts them, or does not say.
    """
    consensus = counting is None or counting.consensus
    human, held = which_count("human", consensus=consensus), which_count("held_out", consensus=consensus)
    sides = votes.frame.select("utterance_id", "weight", human=human, held_out=held)
    return (
        sides.filter(pl.any_horizontal("human", "held_out"))
        .group_by("utterance_id")
        .agg(given=pl.col("weight").filter("human").sum(), judged=pl.col("held_out").any())
    )


def refuse_seen(labels: Labels, votes: Votes, counting: Counting | None) -> list[Finding]:
    """Raise InputError if labels use more human votes than `votes` leave to the fit and some votes are held out.

    The number of votes a label uses is its human_votes. Utterances without held-out votes are not scored and are a
    finding. Published consensus labels count where `counting` counts them, or does not say.
    """
    return refuse_seen_in(labels, given_votes(votes, counting))


def refuse_seen_in(labels: Labels, each: pl.DataFrame) -> list[Finding]:
    """The same from the human votes of each utterance, as `given_votes` counts them."""
    compared = labels.frame.select("utterance_id", "human_votes").join(each, on="utterance_id").sort("utterance_id")
    more = compared.filter(pl.col("human_votes") > pl.col("given") + _ROUNDING)
    seen = more.filter("judged")
    if seen.height:
        first = seen.row(0, named=True)
        judged = int(compared["judged"].sum())
        raise InputError(
            f"{seen.height:,} of the {counted(judged, 'label')} to be scored by held-out votes "
            f"{'uses' if seen.height == 1 else 'use'} more human votes than "
            f"these votes files leave to the fit (the first is {first['utterance_id']}: {first['human_votes']:g}, not "
            f"{first['given']:g}). Held-out votes were used in the fit, or a votes file is missing here",
            where="labels",
            fix="Fuse the same votes files as given here, with held-out votes marked, and compare those labels.",
        )
    if not more.height:
        return []
    message = "labels use more human votes than these votes files contain"
    return [
        Finding.of("votes_missing", message, "Give every Votes file these labels were fused from.", count=more.height)
    ]

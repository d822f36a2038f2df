"""Ratings of several corpora on one scale: linear, from the ends of each scale, or by rank within each corpus."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import which_count
from alm_proxies.printable import counted
from alm_proxies.stages.read.sources import finding
from alm_proxies.tables import ATTRIBUTES, Finding, Utterances, Votes

Alignment = Literal["linear", "rank"]
_FITTED = which_count("human", answer="rating")
_LEAST = 2


def aligned(votes: Votes, utterances: Utterances, how: Alignment) -> tuple[Votes, list[Finding]]:
    """The votes with their ratings aligned, and a finding that states how, where several corpora have ratings.

    linear: every scale is mapped from its two ends to 0..1, as it was read. rank: a rating becomes the share of its
    corpus's fitted human ratings below it, and half of those equal to it; held-out votes take no part in these shares.
    """
    corpora = corpora_of(votes, utterances)
    frame = votes.frame
    rated = {name: _with_ratings(frame, corpora, name) for name in ATTRIBUTES}
    several = sorted({corpus for each in rated.values() for corpus in each})
    if how == "linear":
        if len(several) < _LEAST:
            return votes, []
        message = f"ratings of {len(several)} corpora are aligned linearly, from the ends of each scale to 0..1: "
        message += "; ".join(f"{corpus} ({_scales(votes, corpus)})" for corpus in several)
        fix = 'align_ratings = "rank" compares ranks within each corpus instead.'
        return votes, [finding("ratings_aligned", message, fix=fix, count=len(several))]
    counts = dict.fromkeys(several, 0)
    # a vote of several labels has a row each, with the same rating
    once = frame.select(_FITTED & pl.struct(Votes.KEY[:-1]).is_first_distinct()).to_series().to_numpy()
    for name, each in rated.items():
        values = frame[name].to_numpy().copy() if name in frame.columns else np.empty(0)
        for corpus in each:
            here = (corpora == corpus).to_numpy() & ~np.isnan(values)
            fitted = here & once
            counts[corpus] += frame.filter(here).select(Votes.KEY[:-1]).n_unique()
            values[here] = ranks(np.sort(values[fitted]), values[here])
        if each:
            frame = frame.with_columns(pl.Series(name, values).fill_nan(None))
    scales = {corpus: ends for corpus, ends in votes.about.scales.items() if corpus not in several}
    message = (
        f"{counted(sum(counts.values()), 'rating')} of {len(several)} corpora are ranks within their corpus, from 0 "
        "to 1: "
    )
    message += "; ".join(f"{corpus} ({_scales(votes, corpus)})" for corpus in several)
    findings = [finding("ratings_aligned", message, count=sum(counts.values()))] if several else []
    return Votes(frame, votes.about.with_(scales=scales)), findings


def ranks(fitted: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the sorted fitted values below each value, and half of those equal to it."""
    below = np.searchsorted(fitted, values, side="left")
    through = np.searchsorted(fitted, values, side="right")
    return (below + through) / (2 * len(fitted))


def corpora_of(votes: Votes, utterances: Utterances) -> pl.Series:
    """The corpus of every vote's utterance."""
    known = utterances.frame.select("utterance_id", "corpus")
    joined = votes.frame.select("utterance_id").join(known, on="utterance_id", how="left", maintain_order="left")
    return joined["corpus"].fill_null("")


def _with_ratings(frame: pl.DataFrame, corpora: pl.Series, name: str) -> list[str]:
    """The corpora whose fitted human votes rate an attribute."""
    if name not in frame.columns:
        return []
    kept = frame.select(_FITTED & pl.col(name).is_not_null()).to_series()
    return sorted(corpora.filter(kept).unique().to_list())


def _scales(votes: Votes, corpus: str) -> str:
    ends = votes.about.scales.get(corpus, {})
    stated = {f"{low:g} to {high:g}" for low, high in ends.values()}
    return " and ".join(sorted(stated)) or "0 to 1"

"""The votes of a simulated crowd: a few raters per utterance, and many held-out votes for scores."""

from __future__ import annotations

import numpy as np
import polars as pl

from alm_proxies.seeds import generator
from alm_proxies.stages.simulate.cues import LABELS, Array
from alm_proxies.stages.simulate.listeners import LISTENERS, answers, crowd_of, rate, rating_centres
from alm_proxies.tables import ATTRIBUTES

_AT_ONCE = 256


def votes_of(
    ids: list[str], cues: Array, *, corpus: str, votes: tuple[int, int], dense: int, crowd: int, seed: int
) -> pl.DataFrame:
    """One row per vote: low to high raters per utterance, then `dense` held-out votes by others."""
    parts = [
        _votes_cast(ids[start : start + _AT_ONCE], cues[start : start + _AT_ONCE], votes, dense, crowd, seed)
        for start in range(0, len(ids), _AT_ONCE)
    ]
    frame = pl.concat(parts)
    names = pl.Series([f"{corpus}/{name}" for name in crowd_of(crowd).names])
    return frame.with_columns(annotator=names.gather(frame["annotator"]), source=pl.lit("human"))


def _votes_cast(ids: list[str], cues: Array, votes: tuple[int, int], dense: int, crowd: int, seed: int) -> pl.DataFrame:
    shares = answers(cues, crowd)
    centres = rating_centres(cues, crowd)
    rows: dict[str, list[object]] = {name: [] for name in ("utterance_id", "annotator", "label", "held_out")}
    secondary: list[list[str] | None] = []
    ratings: list[Array] = []
    ticking = crowd_of(crowd).ticking
    for row, name in enumerate(ids):
        chance = generator(seed, "votes", crowd, name)
        few = int(chance.integers(votes[0], votes[1] + 1))
        raters = chance.choice(LISTENERS, size=few + dense, replace=False)
        share = shares[row, raters]
        drawn = (chance.random((len(raters), 1)) > np.cumsum(share, axis=1)).sum(axis=1).clip(0, len(LABELS) - 1)
        ticked = chance.random(share.shape) < np.minimum(0.9, ticking[raters, None] * share)
        ticked[np.arange(len(raters)), drawn] = False
        ratings.append(rate(centres[row, raters, drawn], chance))
        secondary.extend([LABELS[k] for k in np.flatnonzero(marks)] or None for marks in ticked)
        rows["utterance_id"].extend([name] * len(raters))
        rows["annotator"].extend(int(rater) for rater in raters)
        rows["label"].extend(LABELS[int(k)] for k in drawn)
        rows["held_out"].extend(place >= few for place in range(len(raters)))
    rated = np.concatenate(ratings)
    return pl.DataFrame(rows).with_columns(
        pl.Series("secondary", secondary, dtype=pl.List(pl.String())),
        *(pl.Series(name, rated[:, k]) for k, name in enumerate(ATTRIBUTES)),
    )

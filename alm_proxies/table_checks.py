"""What no table may hold, and the columns that follow from others."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import polars as pl

from alm_proxies.about import About
from alm_proxies.ambiguity import Cuts, level
from alm_proxies.columns import Column, did_you_mean, refuse_where
from alm_proxies.errors import TableError
from alm_proxies.uris import has_secret, redacted

ATTRIBUTES = ("valence", "arousal", "dominance")
SUM_TOLERANCE = 1e-4
"""How far a sum of weights or shares may be from 1."""


def refuse_no_rows(frame: pl.DataFrame, where: str) -> None:
    """Raise for a table without rows, where a stage needs some."""
    if not frame.height:
        raise TableError(
            "has no rows", where=where, fix="Check that it is the right file, and that it was copied whole."
        )


def refuse_repeats(frame: pl.DataFrame, key: Sequence[str], where: str) -> None:
    """Raise for a key that occurs twice."""
    # Equal keys have equal hashes, so as many hashes as rows proves that no key is repeated.
    if frame.select(key).hash_rows().n_unique() == frame.height:
        return
    repeated = ~frame.select(pl.struct(key).is_first_distinct()).to_series()
    shown = frame[key[0]]
    named = (
        " ".join(f"{name}={frame[name][int(repeated.arg_true()[0])]!r}" for name in key[1:]) if repeated.any() else ""
    )
    message = f"is repeated{f' ({named})' if named else ''}"
    refuse_where(repeated, shown, message, where, f"Keep one row for each {', '.join(key)}.")


def check_labels(frame: pl.DataFrame, about: About, where: str) -> None:
    """Raise for labels outside the taxonomy."""
    present = frame["label"].unique().drop_nulls().to_list()
    if present and not about.taxonomy:
        fix = "Name one: --taxonomy msp8 (or iemocap4, crema6 ...), or the labels in order: --taxonomy angry,happy,sad."
        raise TableError("has no taxonomy, so its labels are not known", where=where, fix=fix)
    unknown = sorted(set(present) - set(about.taxonomy))
    if unknown:
        near = did_you_mean(unknown[0], about.taxonomy)
        fix = f"{near} The taxonomy is {', '.join(about.taxonomy)}.".strip()
        refuse_where(
            (frame["label"] == unknown[0]).fill_null(False), frame["label"], "is not in the taxonomy", where, fix
        )


def check_status(frame: pl.DataFrame, where: str) -> None:
    """Raise for a vote whose status does not fit what it holds."""
    something = frame.select(pl.any_horizontal(pl.col("label", *ATTRIBUTES).is_not_null())).to_series()
    ok = frame["status"] == "ok"
    fix = "A vote without label or attributes needs a status: refused, unparsable, out_of_vocabulary, failed."
    refuse_where(ok & ~something, frame["label"], "is the label of a vote whose status is ok", where, fix)
    fix = "A vote with a label or an attribute is ok."
    refuse_where(~ok & something, frame["status"], "is the status of a vote with a label or an attribute", where, fix)


def check_sources(frame: pl.DataFrame, where: str) -> None:
    """Raise for held-out proxy votes, and for an annotator that is both human and proxy."""
    wrong = frame["held_out"] & (frame["source"] != "human")
    refuse_where(wrong, frame["source"], "votes cannot be held out", where, "Only human votes are held out.")
    refuse_two_sources(frame.select("annotator", "source").unique(), where)


def refuse_two_sources(pairs: pl.DataFrame, where: str) -> None:
    """Raise for an annotator that is both human and proxy, given the distinct pairs of annotator and source."""
    if pairs["annotator"].n_unique() < pairs.height:
        both = pairs.group_by("annotator").len().filter(pl.col("len") > 1)["annotator"].sort()[0]
        fix = "Give the human and the proxy different names."
        raise TableError(f"has the annotator {both!r} both as human and as proxy", where=where, fix=fix)


def check_draws(frame: pl.DataFrame, key: Sequence[str], where: str) -> None:
    """Raise for repeated votes, for draws whose weights do not sum to 1, and for those of which a part is held out."""
    draw = ["utterance_id", "annotator", "draw"]
    hashes = frame.select(draw).hash_rows()
    if hashes.n_unique() == frame.height:
        short = frame["weight"] < 1.0 - SUM_TOLERANCE
        message, fix = "is the whole weight of its draw", "The weights of one draw sum to 1."
        refuse_where(short, frame["weight"], message, where, fix)
        return
    refuse_repeats(frame, key, where)
    held = pl.col("held_out")
    draws = frame.group_by(draw).agg(pl.col("weight").sum(), parted=held.any() & ~held.all())
    if (sums := draws.filter((pl.col("weight") - 1.0).abs() > SUM_TOLERANCE)).height:
        wrong, first = _rows_of_first(frame, sums, draw)
        message = f"belongs to a draw whose weights sum to {first['weight']:.6g}"
        refuse_where(wrong, frame["weight"], message, where, "The weights of one draw sum to 1.")
    if (parted := draws.filter("parted")).height:
        wrong, _ = _rows_of_first(frame, parted, draw)
        fix = "Hold out all rows of a draw, or none."
        refuse_where(wrong, frame["held_out"], "belongs to a draw of which a part is held out", where, fix)


def _rows_of_first(frame: pl.DataFrame, draws: pl.DataFrame, key: Sequence[str]) -> tuple[pl.Series, dict[str, Any]]:
    """Which rows belong to the first of some draws, and that draw."""
    first = draws.sort(key).row(0, named=True)
    return frame.select(pl.all_horizontal(*(pl.col(name) == first[name] for name in key))).to_series(), first


def sum_across(names: Iterable[str]) -> pl.Expr:
    """The sum of columns, added from left to right.

    polars' sum_horizontal adds in an order that varies with the number of threads, and so does its last digit.
    """
    return reduce(operator.add, map(pl.col, names))


def with_entropy(frame: pl.DataFrame, shares: Sequence[Column], where: str, cuts: Cuts) -> pl.DataFrame:
    """Labels with shares of sum 1, their normalised entropy and ambiguity; raises for other sums."""
    names = [column.name for column in shares]
    total = frame.select(sum_across(names)).to_series().rename("p_*")
    off = (total - 1.0).abs()
    refuse_where(off > SUM_TOLERANCE, total, "is the sum of the shares", where, "The shares of one utterance sum to 1.")
    if (off > 1e-9).any():
        frame = frame.with_columns([(pl.col(name) / total).alias(name) for name in names])
    p = pl.col(names).clip(lower_bound=0.0)
    scale = math.log(len(names)) if len(names) > 1 else 1.0
    frame = frame.with_columns(p)
    surprise = frame.select(pl.when(pl.col(n) > 0).then(-pl.col(n) * pl.col(n).log()).otherwise(0.0) for n in names)
    entropy = (surprise.select(sum_across(names)).to_series() / scale).clip(0.0, 1.0)
    frame = frame.with_columns(entropy.alias("entropy"))
    return frame.with_columns(ambiguity=level(pl.col("entropy"), cuts))


def refuse_secrets(audio: pl.Series, where: str) -> None:
    """Raise for an address with a password, a key or a signature: tables are passed on."""
    remote = audio.filter(audio.str.contains("://", literal=True).fill_null(False))
    secret = next((uri for uri in remote if has_secret(uri)), None)
    if secret is not None:
        shown = audio.map_elements(redacted, return_dtype=pl.String)
        fix = "Leave it out, and give it where the store's own tools look: the environment, a profile or ~/.netrc."
        message = "has a password, a key or a signature in it"
        refuse_where((audio == secret).fill_null(False), shown, message, where, fix)


def not_a_recipe(text: str) -> bool:
    """Whether a text is not the JSON of a recipe."""
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError):
        return True
    if not (isinstance(recipe, dict) and {"parents", "effects", "seed"} <= set(recipe)):
        return True
    return not (_pairs(recipe["parents"], (int, float)) and _pairs(recipe["effects"], (dict,)))


def _pairs(value: object, second: tuple[type, ...]) -> bool:
    """Whether a value is a list of pairs of a name and something of a type."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], second)
        for pair in value
    )

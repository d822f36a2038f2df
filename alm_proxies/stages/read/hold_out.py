"""Held-out human votes: whole splits, and all but a few votes of every other utterance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import OF_CONSENSUS
from alm_proxies.errors import SettingsError
from alm_proxies.nearest import did_you_mean
from alm_proxies.printable import counted
from alm_proxies.seeds import generator
from alm_proxies.stages.read.kept_votes import HELD, NEW, ONE_BY_ONE, Earlier, kept_findings, sides_of
from alm_proxies.stages.read.settings import HoldOut
from alm_proxies.tables import Finding, Utterances, Votes


def hold_out(
    votes: Votes, utterances: Utterances, wanted: HoldOut | None, seed: int, earlier: Earlier | None = None
) -> tuple[Votes, list[Finding]]:
    """The votes with the column `held_out`; the choice for an utterance depends on the seed and its id only.

    Only draws with status ok are counted. What a known rater answered for an utterance is one vote here: no part of it
    is in the fit while the rest is held out. Votes with a label and those with ratings alone are counted apart. A
    consensus label is held out where any vote behind it is. Votes that the earlier table holds out are held out, and of
    the others those that it has in the fit are the last to be; without settings no others than those that are held out
    already.
    """
    splits = () if wanted is None else wanted.splits
    _known_splits(splits, utterances)
    away = utterances.frame.filter(pl.col("split").is_in(list(splits)))["utterance_id"]
    sides = None if earlier is None else sides_of(votes.frame, earlier)
    human = votes.frame.select(
        "utterance_id",
        "annotator",
        "draw",
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
        pl.lit(NEW, pl.Int8).alias("side") if sides is None else sides.of_rows.alias("side"),
        ok=pl.col("status") == "ok",
        labelled=pl.col("label").is_not_null(),
        human=pl.col("source") == "human",
    )
    human = human.filter("human")
    ids, annotators = (human[name].unique().sort() for name in ("utterance_id", "annotator"))
    # Codes instead of names: sorting and comparing them takes a fraction of the time.
    human = human.select(
        "row",
        "draw",
        "ok",
        "labelled",
        "side",
        utterance=_places(human["utterance_id"], ids),
        annotator=_places(human["annotator"], annotators),
    )
    human = human.with_columns(
        away=pl.col("utterance").is_in(ids.is_in(away.implode()).arg_true().implode()),
        consensus=_those(annotators, OF_CONSENSUS),
        answer=pl.when(_those(annotators, ONE_BY_ONE)).then("draw").otherwise(-1),
    )
    keep = None if wanted is None else wanted.keep
    held = human["away"].to_numpy()
    if keep is not None or earlier is not None:
        held = held | _surplus(human, ids, keep, seed)
    flags = np.zeros(len(votes), dtype=np.bool_) if wanted is not None else votes.frame["held_out"].to_numpy().copy()
    flags[human["row"].to_numpy()[held]] = True
    flagged = Votes(votes.frame.with_columns(held_out=pl.Series(flags)), votes.about)
    findings = _findings(human, flags[human["row"].to_numpy()], keep)
    if earlier is not None and sides is not None:
        findings += kept_findings(flagged, utterances, wanted, earlier, sides)
    return flagged, findings


def _those(annotators: pl.Series, which: pl.Expr) -> pl.Expr:
    """Whether a row's annotator, by its place, is one of those."""
    return pl.col("annotator").is_in(annotators.to_frame().select(which).to_series().arg_true().implode())


def _places(names: pl.Series, known: pl.Series) -> pl.Series:
    return names.cast(pl.Enum(known)).to_physical()


def _surplus(human: pl.DataFrame, ids: pl.Series, keep: int | None, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out beyond `keep` votes of each utterance whose split is not held out, chosen by the seed:
    first those that an earlier table holds out, all of them, and last those that it has in the fit.
    """
    here = human.with_row_index("place").filter(~pl.col("away"))
    alone = pl.col("consensus").all().over("utterance") if here["consensus"].any() else pl.lit(value=False)
    here = here.with_columns(alone=alone)
    voted = here.filter(pl.col("ok") & (~pl.col("consensus") | pl.col("alone"))).sort("utterance", "annotator", "draw")
    vote = voted.select(pl.struct("utterance", "annotator", "answer").rle_id()).to_series().to_numpy()
    firsts = np.flatnonzero(np.diff(vote.astype(np.int64), prepend=-1))
    utterance = voted["utterance"].to_numpy()[firsts].astype(np.int64)
    last, first = (each.reduceat(voted["side"].to_numpy(), firsts) for each in (np.maximum, np.minimum))
    side = np.where(last == HELD, HELD, first)
    beyond = side == HELD
    rated = ~np.logical_or.reduceat(voted["labelled"].to_numpy(), firsts)
    order = np.lexsort((np.arange(len(firsts)), rated, utterance))  # those with a label come first
    starts = np.flatnonzero(np.diff(2 * utterance[order] + rated[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    many = sizes > keep if keep is not None else np.zeros(len(sizes), dtype=np.bool_)
    beside = rated[order[starts]] & (np.diff(utterance[order[starts]], prepend=-1) == 0)
    names = ids.gather(utterance[order[starts[many]]]).to_list()
    for name, start, size, more in zip(names, starts[many], sizes[many], beside[many], strict=True):
        drawn = generator(seed, "hold_out", name, *(["ratings"] if more else [])).permutation(int(size))
        group = order[start : start + size][drawn]
        beyond[group[np.argsort(side[group], kind="stable")][keep:]] = True
    chosen: NDArray[np.bool_] = human["side"].to_numpy() == HELD  # also a consensus of votes that do not count
    chosen[voted["place"].to_numpy()[beyond[vote]]] = True
    behind = here.filter(pl.col("consensus") & ~pl.col("alone"))
    scored = np.isin(behind["utterance"].to_numpy(), utterance[beyond])
    chosen[behind["place"].to_numpy()[scored]] = True
    return chosen


def _known_splits(splits: Sequence[str], utterances: Utterances) -> None:
    known = sorted(utterances.frame["split"].drop_nulls().unique().to_list())
    for name in splits:
        if name not in known:
            there = f"There are: {', '.join(known)}." if known else "No utterance has a split; set split to make one."
            fix = f"{did_you_mean(name, known)} {there}".strip()
            raise SettingsError(f"no utterance is in the split {name!r}, which hold_out names", fix=fix)


def _findings(human: pl.DataFrame, held: NDArray[np.bool_], keep: int | None) -> list[Finding]:
    away = human.filter(pl.Series(held)).select("utterance", "annotator", "draw", "consensus").unique()
    whose = away["utterance"].n_unique()
    published = int(away["consensus"].sum())
    votes = away.height - published
    consensus = "published consensus label"
    no_votes = counted(published, f"{consensus}, which is not a vote", f"{consensus}s, which are not votes")
    beside = f", and {no_votes}" if published else ""
    are = "is" if votes == 1 else "are"
    message = f"{counted(votes, 'human vote')} of {counted(whose, 'utterance')} {are} held out{beside}"
    findings = [Finding("read", "held_out", message, count=votes)]
    bare = human["utterance"].n_unique() - whose
    if keep is not None and bare:
        has = counted(bare, "utterance has", "utterances have")
        message = f"{has} no vote beyond the {keep} kept for the fit, so nothing to be scored by"
        kind = "not_scored" if whose else "nothing_held_out"
        findings.append(Finding("read", kind, message, "Keep fewer, or hold out a split.", count=bare))
    return findings

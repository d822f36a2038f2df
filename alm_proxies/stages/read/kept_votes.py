"""Held-out votes of an earlier table: which votes of a grown corpus stay held out, and which stay in the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from alm_proxies.about import about_of
from alm_proxies.ballots import OF_CONSENSUS, OF_CROWD
from alm_proxies.errors import TableError
from alm_proxies.files import could_not_read
from alm_proxies.printable import counted
from alm_proxies.stages.read.settings import VOTES, HoldOut, Source
from alm_proxies.stages.read.sources import finding
from alm_proxies.table_files import is_text
from alm_proxies.tables import ATTRIBUTES, Finding, Utterances, Votes

FITTED, NEW, HELD = 0, 1, 2
"""What an earlier table has a vote as: in the fit, not at all, held out; the order in which votes are fitted."""
_DRAW = ["utterance_id", "annotator", "draw"]
_SAME = (
    ["utterance_id", "annotator", "labels", "ratings"],
    ["utterance_id", "annotator", "labels"],
    ["utterance_id", "annotator"],
)
"""By what a vote is found again, the surest first: draws are numbered anew where votes were added."""
_OK = pl.col("status") == "ok"
ONE_BY_ONE = OF_CROWD | OF_CONSENSUS
"""Whether each answer is a vote of its own: it is not known whose it is. A known rater's for an utterance are one."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The human votes of an earlier table on utterances of the corpus, or with votes now, and the table's path."""

    frame: pl.DataFrame
    where: str


@dataclass(frozen=True, slots=True)
class Sides:
    """What the earlier table has each row of the votes as, and how many of its held-out votes are not found again."""

    of_rows: pl.Series
    lost: int


def earlier_votes(source: Source, votes: Votes) -> Earlier | None:
    """The votes of the earlier table that a source names; None if it names none.

    A table that holds no vote out, or has no vote on an utterance of the source, is refused.
    """
    if source.keep_held_out is None:
        return None
    path = source.keep_held_out / VOTES if source.keep_held_out.is_dir() else source.keep_held_out
    if not path.is_file():
        raise could_not_read(path, FileNotFoundError())
    stated = () if is_text(path) else about_of(path).taxonomy
    human = Votes.read(path, taxonomy=stated or votes.taxonomy).frame.filter(pl.col("source") == "human")
    fix = f"Name the votes.parquet that an earlier read of {source.corpus} wrote, or leave keep_held_out out "
    fix += "(--keep-held-out)."
    if not human["held_out"].any():
        raise TableError("holds no human vote out", where=str(path), fix=fix)
    now = votes.frame.filter(pl.col("source") == "human")["utterance_id"].unique()
    known = human["utterance_id"].is_in(now.implode())
    if not known.any():
        message = f"has no human vote on an utterance of {source.corpus}, so it keeps none held out"
        raise TableError(message, where=str(path), fix=fix)
    of_corpus = human["utterance_id"].str.starts_with(f"{source.corpus}/")
    return Earlier(human.filter(known | of_corpus), str(path))


def drawn_anew(source: Source, wanted: HoldOut | None) -> list[Finding]:
    """A finding if a source keeps the splits of an earlier table, but not its held-out votes."""
    if source.keep_splits is None or source.keep_held_out is not None or source.proxy is not None:
        return []
    if wanted is None or wanted.keep is None:
        return []
    message = "the splits of an earlier table are kept, and its held-out votes are not: those of an utterance that got "
    message += "further votes are drawn anew"
    fix = "Name the earlier votes too, where utterances got further votes (--keep-held-out)."
    return [finding("held_out_drawn_anew", message, fix=fix, where=source.corpus)]


def together(tables: Sequence[Earlier]) -> Earlier | None:
    """The earlier tables of several sources as one; None if there is none."""
    if not tables:
        return None
    frame = pl.concat([table.frame for table in tables], how="diagonal_relaxed")
    where = ", ".join(dict.fromkeys(table.where for table in tables))
    return Earlier(frame.unique(Votes.KEY, keep="first", maintain_order=True), where)


def sides_of(votes: pl.DataFrame, earlier: Earlier) -> Sides:
    """What the earlier table has each vote as, draw by draw.

    A vote is found again by its utterance, rater, labels and ratings, or by fewer of them: a rater who changed a label
    has the same vote. Where raters are not known, and fewer votes of a label are left than there were, the held-out
    ones count as those that are left, so that none of them gets into the fit.
    """
    now = _draws(votes.filter(pl.col("source") == "human")).with_row_index("now")
    before = _draws(earlier.frame.filter(pl.col("held_out") | _OK)).with_row_index("before")
    pairs = []
    left_now, left = now, before
    for by in _SAME:
        pair = _paired(left_now, left, by)
        pairs.append(pair.with_columns(by_rater=pl.lit(by is _SAME[-1])))
        left_now = left_now.join(pair, on="now", how="anti", maintain_order="left")
        left = left.join(pair, on="before", how="anti", maintain_order="left")
    paired = pl.concat(pairs)
    side = pl.when("held_out").then(HELD).otherwise(FITTED).alias("side")
    sides = now.join(paired.select("now", side), on="now", how="left", maintain_order="left").select(*_DRAW, "side")
    of_rows = votes.select(*_DRAW, "source").join(sides, on=_DRAW, how="left", maintain_order="left")
    human = pl.when(pl.col("source") == "human").then("side")
    known = before.join(paired.select("before", "by_rater"), on="before", how="left")
    gone = pl.col("by_rater").is_null() | (pl.col("by_rater") & OF_CROWD)
    lost = known.filter(pl.col("held_out") & pl.col("ok") & ~OF_CONSENSUS & gone).height
    return Sides(of_rows.select(human.fill_null(NEW).cast(pl.Int8)).to_series(), lost)


def _draws(frame: pl.DataFrame) -> pl.DataFrame:
    """One row for each draw: its labels with their shares, and its ratings, as text."""
    share = pl.concat_str(pl.col("label").fill_null(""), pl.col("weight").round(6).cast(pl.String), separator=":")
    rating = pl.concat_str([pl.col(name).round(6).cast(pl.String).fill_null("") for name in ATTRIBUTES], separator=",")
    rows = frame.select(*_DRAW, "held_out", labels=share, ratings=rating, ok=_OK).sort(*_DRAW, "labels")
    own = pl.col("labels").str.join("|"), pl.col("ratings").first(), pl.col("held_out", "ok").any()
    return rows.group_by(_DRAW, maintain_order=True).agg(*own)


def _paired(now: pl.DataFrame, before: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """The draws of both that are the same by these columns, one to one, in the order of their rows.

    Where fewer are left than there were, the held-out ones come first.
    """
    number = pl.int_range(pl.len()).over(by).alias("number")
    fewer = pl.len().over(by) > pl.col("left")
    left = before.join(now.group_by(by).agg(left=pl.len()), on=by, maintain_order="left")
    before = left.sort(pl.col("held_out") & fewer, descending=True, maintain_order=True)
    both = now.select("now", *by, number).join(before.select("before", "held_out", *by, number), on=[*by, "number"])
    return both.select("now", "before", "held_out")


def kept_findings(
    votes: Votes, utterances: Utterances, wanted: HoldOut | None, earlier: Earlier, sides: Sides
) -> list[Finding]:
    """What of the earlier table was kept, and what could not be: votes that moved, and votes that are gone."""
    human = votes.frame.with_columns(side=sides.of_rows).filter((pl.col("source") == "human") & _OK & ~OF_CONSENSUS)
    draws = human.unique(_DRAW).select(*_DRAW, "held_out", "side")
    held = draws.filter(pl.col("side") == HELD).height
    new, fitted = (draws.filter((pl.col("side") == side) & pl.col("held_out")).height for side in (NEW, FITTED))
    fix = ""
    if new and wanted is not None and wanted.keep is not None and not _fits(draws, NEW):
        fix = f"The fit has its {counted(wanted.keep, 'vote')} an utterance already: raise keep to fit some of the new."
    findings = [finding("held_out_kept", _kept(held, new), fix=fix, where=earlier.where, count=held)]
    if fitted:
        message = (
            f"{counted(fitted, 'vote')} of the earlier table's fit {_are(fitted)} held out now: what was trained or "
        )
        message += "fused from that table has used them"
        fix = "Keep its splits too (--keep-splits) and hold out as it does, or train and fuse again."
        findings.append(finding("held_out_moved", message, fix=fix, where=earlier.where, count=fitted))
    if wanted is not None and wanted.keep is not None and (fewer := _with_fewer(human, utterances, wanted)):
        keep = counted(fewer, "utterance keeps", "utterances keep")
        message = f"{keep} fewer than {counted(wanted.keep, 'vote')} for the fit, because other votes stay held out"
        findings.append(finding("held_out_stays", message, where=earlier.where, count=fewer))
    if sides.lost:
        message = f"{counted(sides.lost, 'held-out vote')} of the earlier table {_are(sides.lost)} not found again: "
        message += "removed, with another id of its utterance or rater, or with another label and no known rater"
        fix = "Read with the ids, the taxonomy and the map of the earlier read: a vote with another id or label may be "
        fix += "in the fit now."
        findings.append(finding("held_out_lost", message, fix=fix, where=earlier.where, count=sides.lost))
    return findings


def _fits(draws: pl.DataFrame, side: int) -> bool:
    """Whether the fit has a vote of this side."""
    return bool(draws.filter((pl.col("side") == side) & ~pl.col("held_out")).height)


def _kept(held: int, new: int) -> str:
    stay = "stays" if held == 1 else "stay"
    beside = f", and {counted(new, 'vote')} that it does not have {_are(new)}" if new else ""
    return f"{counted(held, 'held-out vote')} of the earlier table {stay} held out{beside}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _with_fewer(human: pl.DataFrame, utterances: Utterances, wanted: HoldOut) -> int:
    """The number of utterances with fewer votes in the fit than are asked for, though they have more."""
    away = utterances.frame.filter(pl.col("split").is_in(list(wanted.splits))).select("utterance_id")
    answer = pl.when(ONE_BY_ONE).then("draw").otherwise(-1).alias("answer")
    votes = human.join(away, on="utterance_id", how="anti").group_by("utterance_id", "annotator", answer)
    labelled = pl.col("label").is_not_null().any().alias("labelled")
    kinds = votes.agg(pl.col("held_out").any(), labelled).group_by("utterance_id", "labelled")
    fitted = kinds.agg((~pl.col("held_out")).sum(), votes=pl.len())
    keep = pl.min_horizontal(pl.lit(wanted.keep), "votes")
    return fitted.filter(pl.col("held_out") < keep)["utterance_id"].n_unique()

"""From a reply to rows of the ledger, and from the ledger to the Votes table, where every planned vote has a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import About, AnnotatorCard, MadeBy
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import readings
from alm_proxies.annotators.asking import Asking
from alm_proxies.annotators.wording import Reading
from alm_proxies.engines.engine import Reply
from alm_proxies.stages.annotate.figures import counted
from alm_proxies.stages.annotate.ledger import Ledger, Outcome
from alm_proxies.tables import ATTRIBUTES, Finding, Votes

STAGE = "annotate"
_ROWS_AT_ONCE = 100_000
_MOST_SAID = 200
"""Letters of an example."""
_MENDS = {
    "missing": "Bring the recordings back, or fix their root in the utterances file; the same command then asks.",
    "too_long": 'Write too_long = "crop" into the annotator file to ask about the beginning.',
}


def outcomes(
    seat: tuple[Annotator, int],
    utterance: tuple[int, str],
    asking: Asking,
    reply: Reply,
    *,
    tokens_in: float,
    silence: NDArray[np.float64] | None = None,
    material: str,
    seed: int,
    at: float,
) -> tuple[list[Outcome], list[Reading]]:
    """The ledger's rows for a request that came back; what it used and cost is shared evenly by its draws.

    Every try that may be charged for is priced, failed ones too, at its audio and prompt tokens (`tokens_in`).
    """
    annotator, number = seat
    read = readings(asking, reply, annotator.labels, silence)
    share = 1.0 / len(asking.draws)
    price = annotator.file.price.of(audio_seconds=reply.audio_seconds, tokens_in=tokens_in, tokens_out=reply.tokens_out)
    rows = []
    seeds = asking.request.seeds or [annotator.seed_of_draw(seed, utterance[1], draw) for draw in asking.draws]
    for draw, cell, draw_seed, (reading, raw) in zip(asking.draws, asking.cells, seeds, read, strict=True):
        digest = annotator.request_digest(material, draw_seed, draw)
        rows.append(
            Outcome(
                annotator=number,
                utterance=utterance[0],
                draw=draw,
                status=reading.status,
                kind=reading.kind,
                label=_single(reading),
                more=_more(reading),
                stated=reading.stated,
                raw=raw,
                request=digest,
                cell=cell,
                latency=reply.latency,
                tokens_in=tokens_in * share,
                tokens_out=reply.tokens_out * share,
                price=price * share,
                tries=max(1, reply.tries),
                seeded=reply.seeds_honoured or asking.request.elicit == "score",
                at=at,
            )
        )
    return rows, [reading for reading, _ in read]


def not_asked(seat: int, utterance: int, draws: list[int], kind: str, message: str, at: float) -> list[Outcome]:
    """Failed votes that no engine was asked for, because the recording or the text cannot be used."""
    return [
        Outcome(
            seat, utterance, draw, "failed", kind, None, None, None, message, "", -1, 0.0, 0.0, 0.0, 0.0, 0, False, at
        )
        for draw in draws
    ]


def votes_of(ledger: Ledger, taxonomy: tuple[str, ...], made_by: MadeBy | None = None) -> Votes:
    """The Votes of the current plan: every planned vote has its rows, whatever its status; one not cast has failed."""
    names = dict(ledger.sql.execute("SELECT id, name FROM utterance"))
    cards: dict[str, AnnotatorCard] = {}
    frames = []
    panel = ledger.sql.execute(
        "SELECT a.id, a.name, a.card, p.votes FROM planned_annotator p JOIN annotator a ON a.id = p.annotator"
    ).fetchall()
    planned = pl.DataFrame(
        {"number": [row[0] for row in ledger.sql.execute("SELECT utterance FROM planned_utterance")]},
        schema={"number": pl.Int64},
    )
    for number, name, card, votes in panel:
        cards[name] = AnnotatorCard.model_validate_json(card)
        cast = pl.concat([_frame([]), *(_frame(rows) for rows in _cast(ledger, number, votes))])
        draws = pl.DataFrame({"draw": range(votes)}, schema={"draw": pl.Int32})
        every = planned.join(draws, how="cross").join(cast, on=["number", "draw"], how="left")
        frames.append(every.with_columns(annotator=pl.lit(name), status=pl.col("status").fill_null("failed")))
    frame = pl.concat(frames) if frames else _frame([]).with_columns(annotator=pl.lit(""))
    frame = frame.with_columns(
        utterance_id=pl.col("number").replace_strict(names, return_dtype=pl.String), source=pl.lit("proxy")
    )
    frame = frame.with_columns(weight=pl.col("weight").fill_null(1.0)).drop("number")
    about = About(taxonomy=taxonomy, annotators=cards, made_by=made_by)
    return Votes.of(frame.sort(Votes.KEY, nulls_last=False), about=about, where=str(ledger.path))


def findings_of(ledger: Ledger) -> list[Finding]:
    """What became of the planned votes that are not ok, by annotator and kind, with one utterance as an example."""
    query = """SELECT a.name, v.status, v.kind, COUNT(*), u.name, MIN(v.raw) FROM vote v
        JOIN annotator a ON a.id = v.annotator JOIN planned_annotator p ON p.annotator = v.annotator
        JOIN utterance u ON u.id = v.utterance
        WHERE v.status != 'ok' AND v.draw < p.votes AND v.utterance IN (SELECT utterance FROM planned_utterance)
        GROUP BY a.name, v.status, v.kind ORDER BY a.name, v.status, v.kind"""
    found = []
    for name, status, kind, count, example, raw in ledger.sql.execute(query):
        message = f"{counted(count, 'vote')} of {name}: {status.replace('_', ' ')} ({kind.replace('_', ' ')})"
        message = f"{message}, e.g. {example}: {raw[:_MOST_SAID]!r}"
        fix = _MENDS.get(kind, "") if status == "failed" else ""
        found.append(Finding(STAGE, status, message, fix, utterance_id=example, where=kind, count=count))
    return found


def _single(reading: Reading) -> str | None:
    return reading.shares[0][0] if len(reading.shares) == 1 else None


def _more(reading: Reading) -> str | None:
    more: dict[str, Any] = {}
    if len(reading.shares) > 1:
        more["shares"] = reading.shares
    if reading.secondary is not None:
        more["secondary"] = reading.secondary
    if reading.attributes is not None:
        more["attributes"] = reading.attributes
    return json.dumps(more) if more else None


_SCHEMA: dict[str, Any] = {
    "number": pl.Int64,
    "draw": pl.Int32,
    "status": pl.String,
    "label": pl.String,
    "weight": pl.Float64,
    "secondary": pl.List(pl.String),
    "valence": pl.Float64,
    "arousal": pl.Float64,
    "dominance": pl.Float64,
    "stated": pl.String,
}


def _frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def _cast(ledger: Ledger, annotator: int, votes: int) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of the Votes table for what was cast, some at a time."""
    query = "SELECT utterance, draw, status, label, more, stated FROM vote WHERE annotator = ? AND draw < ?"
    rows: list[tuple[Any, ...]] = []
    for utterance, draw, status, label, more, stated in ledger.sql.execute(query, (annotator, votes)):
        head = (utterance, draw, status)
        if more is None:
            rows.append((*head, label, 1.0, None, None, None, None, stated))
        else:
            rows += _several(head, label, json.loads(more), stated)
        if len(rows) >= _ROWS_AT_ONCE:
            yield rows
            rows = []
    yield rows


def _several(
    head: tuple[Any, ...], label: str | None, more: dict[str, Any], stated: str | None
) -> list[tuple[Any, ...]]:
    vad = more.get("attributes") or (None,) * len(ATTRIBUTES)
    shares = more.get("shares") or [(label, 1.0)]
    return [(*head, one, weight, more.get("secondary"), *vad, stated) for one, weight in shares]

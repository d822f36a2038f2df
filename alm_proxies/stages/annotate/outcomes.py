"""Rows of the ledger from the reply to a request."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import readings
from alm_proxies.annotators.asking import Asking
from alm_proxies.annotators.wording import Reading
from alm_proxies.engines.engine import Reply
from alm_proxies.stages.annotate.budget import Use
from alm_proxies.stages.annotate.records import Outcome

STAGE = "annotate"


def outcomes(
    member: tuple[Annotator, int],
    utterance: tuple[int, str],
    asking: Asking,
    reply: Reply,
    used: Use,
    *,
    silence: NDArray[np.float64] | None = None,
    material: str,
    seed: int,
    at: float,
) -> tuple[list[Outcome], list[Reading]]:
    """The rows of a request and how its answers were read; its draws share the use and the cost evenly.

    The cost includes every try that may be charged for, also failed ones.
    """
    annotator, number = member
    read = readings(asking, reply, annotator.labels, silence)
    share = 1.0 / len(asking.draws)
    price = annotator.file.price.of(
        audio_seconds=used.audio_seconds, tokens_in=used.tokens_in, tokens_out=used.tokens_out
    )
    head, tail = (number, utterance[0]), (reply.latency, used.tokens_in * share, used.tokens_out * share, price * share)
    tries, seeded = max(1, reply.tries), reply.seeds_honoured or asking.request.elicit == "score"
    rows = []
    seeds = asking.request.seeds or [annotator.seed_of_draw(seed, utterance[1], draw) for draw in asking.draws]
    for draw, cell, draw_seed, (reading, raw) in zip(asking.draws, asking.cells, seeds, read, strict=True):
        digest = annotator.request_digest(material, draw_seed, draw)
        label = reading.shares[0][0] if len(reading.shares) == 1 else None
        answer = (reading.status, reading.kind, label, _more(reading), reading.stated, raw, digest, cell)
        rows.append(Outcome._make((*head, draw, *answer, *tail, tries, seeded, at)))
    return rows, [reading for reading, _ in read]


def not_asked(member: int, utterance: int, draws: list[int], kind: str, message: str, at: float) -> list[Outcome]:
    """Failed votes that were not requested, because the recording or the text cannot be used."""
    return [
        Outcome(
            member, utterance, draw, "failed", kind, None, None, None, message, "", -1, 0.0, 0.0, 0.0, 0.0, 0, False, at
        )
        for draw in draws
    ]


def _more(reading: Reading) -> str | None:
    more: dict[str, Any] = {}
    if len(reading.shares) > 1:
        more["shares"] = reading.shares
    if reading.secondary is not None:
        more["secondary"] = reading.secondary
    if reading.attributes is not None:
        more["attributes"] = reading.attributes
    return json.dumps(more) if more else None

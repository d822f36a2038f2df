"""The replies behind votes: what the ledgers of a folder know of each vote, beside the rows of the votes tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.ledgers import repeated

Replies = Mapping[Path, Mapping[tuple[str, int], dict[str, Any]]]
"""For the folder of each ledger, its votes by annotator and draw."""
_VOTE = ("source", "annotator", "draw", "label")


def replies_of(ledgers: Sequence[Path], utterance_id: str) -> Replies:
    """The votes of ledgers on one utterance, with raw reply, cell, request digest, tokens and price."""
    replies: dict[Path, dict[tuple[str, int], dict[str, Any]]] = defaultdict(dict)
    twice = repeated(ledgers)
    for path in sorted(ledgers, key=lambda path: path not in twice):  # where two have a vote, the whole one's counts
        with Ledger.look(path) as ledger:
            currency = ledger.currency()
            for reply in ledger.replies(utterance_id):
                key = reply.pop("annotator"), reply.pop("draw")
                replies[path.parent][key] = reply | {"currency": currency}
    return dict(replies)


def votes_with_replies(tables: Mapping[Path, pl.DataFrame], replies: Replies, folder: Path) -> list[dict[str, Any]]:
    """The rows of votes tables on one utterance with what the ledger beside each table knows of them, and votes that
    are in a ledger alone. A row that several tables have is there once; where they differ, each has its file.
    """
    frames = [frame.with_columns(file=pl.lit(str(path))) for path, frame in tables.items()]
    rows: list[dict[str, Any]] = []
    if frames:
        together = pl.concat(frames, how="diagonal_relaxed")
        own = [name for name in together.columns if name != "file"]
        rows = together.unique(own, keep="first", maintain_order=True).sort(*_VOTE, maintain_order=True).to_dicts()
    votes = [_with_reply(row, replies) for row in rows]
    written = {(vote["annotator"], vote["draw"]) for vote in votes}
    votes += _alone(replies, written)
    several = _several(votes)
    for vote in votes:
        file = Path(vote.pop("file"))
        if (vote["annotator"], vote["draw"]) in several:
            vote["file"] = str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)
    return votes


def _with_reply(row: dict[str, Any], replies: Replies) -> dict[str, Any]:
    """A row with the reply of the ledger beside its table; if there is none, of any ledger."""
    key = row["annotator"], row["draw"]
    beside = replies.get(Path(row["file"]).parent)
    near = [beside] if beside is not None else list(replies.values())
    known = next((own[key] for own in near if key in own), {})
    return row | {name: value for name, value in known.items() if name != "label"}


def _alone(replies: Replies, written: set[tuple[str, int]]) -> list[dict[str, Any]]:
    """The votes in ledgers that no table has, those of several ledgers with one request once."""
    seen: set[tuple[str, int, object]] = set()
    votes = []
    for folder, own in replies.items():
        for (annotator, draw), reply in own.items():
            if (annotator, draw) in written or (annotator, draw, reply["request"]) in seen:
                continue
            seen.add((annotator, draw, reply["request"]))
            vote = {"source": "proxy", "annotator": annotator, "draw": draw, "weight": 1.0, "held_out": False}
            votes.append(vote | {"stated": None, "file": str(folder)} | reply)
    return votes


def _several(votes: Iterable[Mapping[str, Any]]) -> set[tuple[str, int]]:
    """The votes, by annotator and draw, that are in several files with different content."""
    files: dict[tuple[str, int], set[str]] = defaultdict(set)
    for vote in votes:
        files[vote["annotator"], vote["draw"]].add(vote["file"])
    return {key for key, own in files.items() if len(own) > 1}

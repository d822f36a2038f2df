"""What is held out, vote by vote, against the rule written out plainly."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.seeds import generator
from alm_proxies.stages.read.hold_out import hold_out
from alm_proxies.stages.read.settings import HoldOut
from alm_proxies.tables import Utterances, Votes

SPLITS = {"c/a": "test", "c/b": "train", "c/ä": None, "c/d": None}
DRAW = st.tuples(
    st.sampled_from(sorted(SPLITS)),
    st.sampled_from(["c/r1", "c/r10", "c/r2", "c/crowd", "c/consensus", "alm"]),
    st.integers(0, 12),
)
KIND = st.sampled_from(["one label", "two labels", "a rating", "unparsable"])


def rows_of(draw: tuple[str, str, int], kind: str) -> list[dict[str, Any]]:
    row: dict[str, Any] = {
        "valence": None,
        "utterance_id": draw[0],
        "annotator": draw[1],
        "draw": draw[2],
        "weight": 1.0,
        "status": "ok",
    }
    row["source"] = "proxy" if draw[1] == "alm" else "human"
    if kind == "unparsable":
        return [{**row, "label": None, "status": "unparsable"}]
    if kind == "a rating":
        return [{**row, "label": None, "valence": 0.25}]
    labels = ["happy"] if kind == "one label" else ["happy", "sad"]
    return [{**row, "label": label, "weight": 1 / len(labels)} for label in labels]


def vote_of(row: dict[str, Any]) -> tuple[str, int]:
    return row["annotator"], row["draw"] if row["annotator"].endswith(("/crowd", "/consensus")) else -1


def plainly(rows: list[dict[str, Any]], wanted: HoldOut, seed: int) -> list[bool]:
    """Which rows are held out: the human votes of the splits wanted; elsewhere the draws beyond those kept.

    All draws of a rater for an utterance are one vote, and each of a crowd. Votes stand in order of annotator and
    number, those with a label apart from those with ratings alone, shuffled by (seed, utterance). A consensus label is
    no vote where there are others, and goes with them.
    """
    gone: set[int] = set()
    for utterance, split in SPLITS.items():
        mine = [n for n, row in enumerate(rows) if row["utterance_id"] == utterance and row["source"] == "human"]
        if split in wanted.splits:
            gone.update(mine)
        elif wanted.keep is not None:
            agreed = [n for n in mine if rows[n]["annotator"].endswith("/consensus")]
            votes = mine if len(agreed) == len(mine) else [n for n in mine if n not in agreed]
            votes = [n for n in votes if rows[n]["status"] == "ok"]
            labelled: dict[tuple[str, int], bool] = {}
            for n in votes:
                vote = vote_of(rows[n])
                labelled[vote] = labelled.get(vote, False) or rows[n]["label"] is not None
            beyond: set[tuple[str, int]] = set()
            for kind in (True, False):
                group = sorted(vote for vote, has in labelled.items() if has == kind)
                beside = ["ratings"] if not kind and any(labelled.values()) else []
                order = generator(seed, "hold_out", utterance, *beside).permutation(len(group))
                beyond |= {group[place] for place in order[wanted.keep :]}
            gone.update(n for n in votes if vote_of(rows[n]) in beyond)
            if beyond and len(agreed) < len(mine):
                gone.update(agreed)
    return [n in gone for n in range(len(rows))]


@settings(max_examples=150, deadline=None)
@given(
    draws=st.dictionaries(DRAW, KIND, min_size=1, max_size=40),
    splits=st.sampled_from([(), ("test",), ("test", "train")]),
    keep=st.one_of(st.none(), st.integers(0, 4)),
    seed=st.integers(0, 3),
    shuffle=st.randoms(use_true_random=False),
)
def test_the_votes_held_out_are_those_that_the_rule_names(
    draws: dict[tuple[str, str, int], str], splits: tuple[str, ...], keep: int | None, seed: int, shuffle: Any
) -> None:
    rows = [row for draw, kind in draws.items() for row in rows_of(draw, kind)]
    shuffle.shuffle(rows)
    wanted = HoldOut(splits=splits, keep=2 if keep is None and not splits else keep)
    votes = Votes.of(
        pl.DataFrame(rows, schema_overrides={"label": pl.String, "draw": pl.Int32, "valence": pl.Float64}),
        taxonomy="iemocap4",
    )
    people = Utterances.of(pl.DataFrame({"utterance_id": list(SPLITS), "split": list(SPLITS.values())}))
    held_out, findings = hold_out(votes, people, wanted, seed)
    expected = plainly(rows, wanted, seed)
    assert held_out.frame["held_out"].to_list() == expected
    assert held_out.frame.drop("held_out").equals(votes.frame.drop("held_out"))
    assert Votes.of(held_out.frame, about=held_out.about).frame.equals(held_out.frame)
    gone = [row for row, held in zip(rows, expected, strict=True) if held]
    human = {row["utterance_id"] for row in rows if row["source"] == "human"}
    counts = {finding.kind: finding.count for finding in findings}
    voted = [row for row in gone if not row["annotator"].endswith("/consensus")]
    assert counts["held_out"] == len({(row["utterance_id"], row["annotator"], row["draw"]) for row in voted})
    bare = len(human - {row["utterance_id"] for row in gone})
    kind = "not_scored" if gone else "nothing_held_out"
    assert counts.get(kind, 0) == (bare if wanted.keep is not None else 0)
    assert not {"not_scored", "nothing_held_out"} & set(counts) - {kind}

"""Votes become counts once: what is left out is counted, what is shared is merged."""

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import InputError
from alm_proxies.estimators.counts import Merge, counts_of, unique_rows
from alm_proxies.tables import About, AnnotatorCard, Utterances, Votes

LABELS = ("angry", "happy", "sad")


def rows(*cast: tuple, about: About | None = None, **more: object) -> Votes:
    frame = pl.DataFrame(list(cast), schema=["utterance_id", "annotator", "source", "label"], orient="row")
    return Votes.of(frame.with_columns(**more), taxonomy=LABELS, about=about)


def test_votes_are_counted_by_utterance_label_and_source():
    counts = counts_of(
        rows(
            ("b", "r1", "human", "sad"),
            ("a", "r1", "human", "angry"),
            ("a", "r2", "human", "angry"),
            ("b", "m", "proxy", "happy"),
        )
    )
    assert counts.utterances.to_list() == ["a", "b"]
    assert counts.human.tolist() == [[2, 0, 0], [0, 0, 1]]
    assert counts.blocks[0].counts.tolist() == [[0, 0, 0], [0, 1, 0]]
    assert counts.blocks[0].votes.tolist() == [0, 1]


def test_the_order_of_the_rows_changes_nothing():
    rng = np.random.default_rng(0)
    cast = [(f"u{rng.integers(30):02d}", f"r{i}", "human", LABELS[rng.integers(3)]) for i in range(200)]
    first, second = counts_of(rows(*cast)), counts_of(rows(*[cast[i] for i in rng.permutation(200)]))
    assert first.utterances.equals(second.utterances)
    assert np.array_equal(first.human, second.human)


def test_held_out_votes_are_not_seen_and_are_counted():
    votes = rows(("a", "r1", "human", "sad"), ("a", "r2", "human", "happy"), held_out=pl.Series([False, True]))
    counts = counts_of(votes)
    assert counts.human.tolist() == [[0, 0, 1]]
    assert [(f.kind, f.count) for f in counts.findings] == [("held_out", 1)]


def test_an_utterance_whose_votes_are_all_held_out_still_has_a_row():
    votes = rows(("a", "r1", "human", "sad"), ("b", "r2", "human", "happy"), held_out=pl.Series([False, True]))
    assert counts_of(votes).human.tolist() == [[0, 0, 1], [0, 0, 0]]


def test_votes_that_failed_are_left_out_and_counted_by_status():
    votes = rows(("a", "r1", "human", "sad"), ("a", "m", "proxy", None), status=pl.Series(["ok", "refused"]))
    counts = counts_of(votes)
    assert not counts.blocks
    assert [(f.kind, f.count) for f in counts.findings] == [("refused", 1)]


def test_a_published_consensus_is_no_vote_unless_asked():
    votes = rows(("a", "c/r1", "human", "sad"), ("a", "c/consensus", "human", "angry"))
    assert counts_of(votes).human.tolist() == [[0, 0, 1]]
    assert [f.kind for f in counts_of(votes).findings] == ["consensus"]
    assert counts_of(votes, consensus=True).human.tolist() == [[1, 0, 1]]


def test_annotators_of_one_model_share_a_block():
    cards = {name: AnnotatorCard(digest=name, model="one/model") for name in ("warm", "cold")}
    votes = rows(
        ("a", "r1", "human", "sad"),
        ("a", "warm", "proxy", "sad"),
        ("a", "cold", "proxy", "happy"),
        ("a", "else", "proxy", "angry"),
        about=About(annotators=cards),
    )
    blocks = {block.name: block.counts.tolist() for block in counts_of(votes).blocks}
    assert blocks == {"one/model": [[0, 1, 1]], "else": [[1, 0, 0]]}


def test_a_block_of_one_annotator_has_the_annotator_s_name_and_is_found_by_that_of_its_model():
    """A listener's model is the recipe it was trained by; estimators of earlier files know the block by that."""
    cards = {
        "listener": AnnotatorCard(digest="l", model="encoder", elicit="score"),
        "prosody": AnnotatorCard(digest="p", model="features", elicit="score"),
        "features": AnnotatorCard(digest="f", model="some/model"),
    }
    votes = rows(
        ("a", "r1", "human", "sad"),
        ("a", "listener", "proxy", "sad"),
        ("a", "prosody", "proxy", "happy"),
        ("a", "features", "proxy", "angry"),
        about=About(annotators=cards),
    )
    counts = counts_of(votes)
    # an annotator named as another's model keeps the name of its own, so that no two blocks have one name
    assert counts.steering == ("some/model", "listener", "prosody")
    assert counts.aligned(["features"]).blocks[0].counts.argmax() == LABELS.index("happy")
    for kept_name in ("encoder", "listener"):
        (block,) = counts.aligned([kept_name]).blocks
        assert (block.name, block.votes.tolist()) == (kept_name, [1])


def test_a_block_is_found_where_the_votes_know_of_another_annotator_of_its_model():
    card = AnnotatorCard(digest="d", model="one/model")
    cast = [("a", "r1", "human", "sad"), ("a", "warm", "proxy", "sad")]
    alone = counts_of(rows(*cast, about=About(annotators={"warm": card})))
    among = counts_of(rows(*cast, about=About(annotators={"warm": card, "cold": card})))
    assert (alone.steering, among.steering) == (("warm",), ("one/model",))
    for counts, name in ((alone, "one/model"), (among, "warm")):
        assert counts.aligned([name]).blocks[0].votes.tolist() == [1]


def test_an_exact_copy_of_an_annotator_counts_once_and_is_named():
    rng = np.random.default_rng(1)
    heard = [(f"u{i:02d}", LABELS[rng.integers(3)]) for i in range(40)]
    cast = [(u, name, "proxy", label) for u, label in heard for name in ("first", "twin")]
    counts = counts_of(rows(*cast, ("u00", "r", "human", "sad")))
    assert [block.annotators for block in counts.blocks] == [("first",)]
    assert [(f.kind, f.where) for f in counts.findings] == [("copied_annotator", "twin")]


def test_label_probabilities_enter_as_floored_log_shares_not_as_counts():
    cards = {"scorer": AnnotatorCard(digest="s", elicit="score")}
    votes = rows(
        ("a", "scorer", "proxy", "angry"),
        ("a", "scorer", "proxy", "sad"),
        ("a", "scorer", "proxy", "angry"),
        ("b", "r", "human", "sad"),
        about=About(annotators=cards),
        draw=pl.Series([0, 0, 1, 0]),
        weight=pl.Series([0.8, 0.2, 1.0, 1.0]),
    )
    block = counts_of(votes).blocks[0]
    logs = (np.log([0.8, 1e-3, 0.2]) + np.log([1.0, 1e-3, 1e-3])) / 2
    assert block.kind == "shares"
    assert np.allclose(block.counts[0], np.exp(logs) / np.exp(logs).sum())
    assert block.counts[1].tolist() == [0, 0, 0]
    assert block.votes.tolist() == [2, 0]


def secondary_votes() -> Votes:
    named = [["sad", "happy"], None, None]
    return rows(
        ("a", "r1", "human", "angry"),
        ("a", "r2", "human", "angry"),
        ("b", "r1", "human", "sad"),
        secondary=pl.Series(named),
    )


def test_secondary_labels_share_their_weight_as_published():
    counts = counts_of(secondary_votes(), merge=Merge(primary=0.9, secondary=0.1))
    assert np.allclose(counts.human, [[1.8, 0.1, 0.1], [0, 0, 1]])


def test_secondary_labels_unused_are_reported():
    counts = counts_of(secondary_votes())
    assert counts.human.tolist() == [[2, 0, 0], [0, 0, 1]]
    assert [(f.kind, f.count) for f in counts.findings] == [("secondary", 1)]


def test_leaving_one_out_leaves_a_whole_draw_out():
    counts = counts_of(secondary_votes(), merge=Merge(primary=0.9, secondary=0.1)).left_one_out()
    assert np.allclose(counts.mass.sum(), 3.0)
    assert np.allclose(
        counts.contexts + counts.targets * counts.mass[:, None], [[1.8, 0.1, 0.1], [1.8, 0.1, 0.1], [0, 0, 1]]
    )


def test_leaving_one_out_of_counts_covers_every_vote_once():
    left = counts_of(
        rows(("a", "1", "human", "sad"), ("a", "2", "human", "sad"), ("a", "3", "human", "happy"))
    ).left_one_out()
    assert sorted(zip(left.contexts.tolist(), left.targets.tolist(), left.mass, strict=True)) == [
        ([0, 0, 2], [0, 1, 0], 1.0),
        ([0, 1, 1], [0, 0, 1], 2.0),
    ]


def test_speakers_come_from_the_utterances():
    votes = rows(("a", "r", "human", "sad"), ("b", "r", "human", "sad"), ("c", "r", "human", "sad"))
    known = Utterances.of(pl.DataFrame({"utterance_id": ["c", "b", "a"], "speaker": ["s2", "s1", "s1"]}))
    counts = counts_of(votes, utterances=known)
    assert counts.speakers.tolist() == [0, 0, 1]
    assert counts.speakers_known
    assert not counts_of(votes).speakers_known


def test_a_column_that_is_not_there_is_refused_by_name():
    votes = rows(("a", "r", "human", "sad"))
    known = Utterances.of(pl.DataFrame({"utterance_id": ["a"]}))
    with pytest.raises(InputError, match="'loudness'"):
        counts_of(votes, utterances=known, columns=["loudness"])


def test_votes_without_labels_are_refused():
    votes = Votes.of(pl.DataFrame({"utterance_id": ["a"], "annotator": ["r"], "label": [None], "valence": [0.5]}))
    with pytest.raises(InputError, match="no label votes"):
        counts_of(votes)


def test_unique_rows_rebuild_their_array():
    counts = np.random.default_rng(2).integers(0, 2, (50, 3)).astype(float)
    distinct, which = unique_rows(counts)
    assert np.array_equal(distinct[which], counts)
    assert len(distinct) == len({tuple(row) for row in counts})

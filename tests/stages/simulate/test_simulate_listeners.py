from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alm_proxies.stages.simulate.cues import CUES, EXPRESSIONS, LABELS, STEPS
from alm_proxies.stages.simulate.dialogues import SPLITS, expressions_of, turns_of
from alm_proxies.stages.simulate.listeners import (
    LISTENERS,
    answers,
    crowd_of,
    true_distribution,
    true_rating,
)
from alm_proxies.stages.simulate.speakers import speaker
from alm_proxies.stages.simulate.voting import votes_of
from alm_proxies.tables import ATTRIBUTES

PURE = EXPRESSIONS * STEPS


def entropy(shares: np.ndarray) -> np.ndarray:
    return np.asarray(-(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=-1))


@given(arrays(np.float64, (3, len(CUES)), elements=st.floats(-60, 60)), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_every_listener_answers_with_a_distribution_whatever_the_cues(cues: np.ndarray, crowd: int) -> None:
    shares = answers(cues, crowd)
    assert shares.shape == (3, LISTENERS, len(LABELS))
    assert shares.min() > 0
    assert np.allclose(shares.sum(axis=-1), 1)
    rating = true_rating(cues, crowd)
    assert rating.mean.min() > 0
    assert rating.mean.max() < 1
    assert rating.spread.max() < 0.5


def test_the_truth_is_the_mean_over_the_whole_crowd_and_each_row_is_its_own() -> None:
    rows = np.random.default_rng(0).normal(size=(600, len(CUES))) * STEPS
    truth = true_distribution(rows)
    assert np.allclose(truth, answers(rows).mean(axis=1))
    assert np.allclose(truth[100:101], true_distribution(rows[100]))
    assert true_distribution(rows[:0]).shape == (0, len(LABELS))


@pytest.mark.parametrize("row", range(len(LABELS)))
def test_a_full_expression_is_mostly_heard_as_what_it_is(row: int) -> None:
    assert int(true_distribution(PURE[row])[0].argmax()) == row


def test_listeners_disagree_more_where_the_blend_is_mixed() -> None:
    pure = entropy(true_distribution(1.2 * PURE))
    pairs = [(a, b) for a in range(6) for b in range(a) if 4 not in (a, b)]
    mixed = entropy(true_distribution(np.stack([0.6 * (PURE[a] + PURE[b]) for a, b in pairs])))
    ends = np.array([(pure[a] + pure[b]) / 2 for a, b in pairs])
    assert (mixed > ends).mean() > 0.8
    assert (mixed - ends).mean() > 0.1


def test_listeners_have_opinions_of_their_own() -> None:
    own = answers(PURE[:1] * 0.6)[0]
    assert own[:, 0].std() > 0.1
    assert len({int(label) for label in own.argmax(axis=1)}) > 1


def test_cues_together_say_more_than_each_alone() -> None:
    loud, rough = np.zeros(8), np.zeros(8)
    loud[3], rough[6] = 1.5 * STEPS[3], 1.5 * STEPS[6]
    neither, loud_alone, rough_alone, both = np.log(true_distribution(np.stack([0 * loud, loud, rough, loud + rough])))[
        :, 0
    ]
    assert abs((both - loud_alone) - (rough_alone - neither)) > 0.1


def test_another_crowd_hears_and_speaks_differently() -> None:
    first, second = true_distribution(PURE * 0.8), true_distribution(PURE * 0.8, crowd=1)
    assert 0.5 * np.abs(first - second).sum(axis=1).mean() > 0.1
    assert not set(crowd_of(0).names) & set(crowd_of(1).names)
    assert np.abs(expressions_of(1) - expressions_of(0)).mean() > 0.1


def test_ratings_go_the_way_of_the_emotion() -> None:
    valence, arousal, dominance = (dict(zip(LABELS, column, strict=True)) for column in true_rating(PURE).mean.T)
    assert valence["happy"] > valence["neutral"] > valence["sad"]
    assert arousal["angry"] > arousal["neutral"] > arousal["sad"]
    assert dominance["angry"] > dominance["fear"]


def test_votes_and_ratings_are_drawn_from_the_truth() -> None:
    cues = np.tile(0.5 * (PURE[0] + PURE[3]), (400, 1))
    ids = [f"sim/{n:06d}" for n in range(400)]
    votes = votes_of(ids, cues, corpus="sim", votes=(3, 5), dense=20, crowd=0, seed=0)
    truth, rating = true_distribution(cues[:1])[0], true_rating(cues[:1])
    shares = np.array([(votes["label"] == label).mean() for label in LABELS])
    assert np.abs(shares - truth).max() < 4 * np.sqrt(0.25 / votes.height)
    for k, name in enumerate(ATTRIBUTES):
        assert votes[name].mean() == pytest.approx(rating.mean[0, k], abs=4 * 0.25 / np.sqrt(votes.height))
        assert votes[name].std() == pytest.approx(rating.spread[0, k], rel=0.05)
    # The few and the dense votes are of one kind.
    few = votes.filter(~pl.col("held_out"))
    few_shares = np.array([(few["label"] == label).mean() for label in LABELS])
    assert np.abs(few_shares - truth).max() < 4 * np.sqrt(0.25 / few.height)


def test_an_utterance_has_three_to_five_raters_and_none_hears_it_twice() -> None:
    cues = np.zeros((200, len(CUES)))
    ids = [f"sim/{n:06d}" for n in range(200)]
    votes = votes_of(ids, cues, corpus="sim", votes=(3, 5), dense=50, crowd=0, seed=1)
    few = votes.filter(~pl.col("held_out")).group_by("utterance_id").len()["len"]
    assert sorted(set(few.to_list())) == [3, 4, 5]
    assert votes.filter("held_out").group_by("utterance_id").len()["len"].unique().to_list() == [50]
    assert votes.select(pl.struct("utterance_id", "annotator").is_duplicated().any()).item() is False
    assert votes["annotator"].n_unique() == LISTENERS


def test_secondary_labels_are_never_the_primary_and_are_often_given() -> None:
    cues = np.tile(0.5 * (PURE[0] + PURE[1]), (100, 1))
    ids = [f"sim/{n:06d}" for n in range(100)]
    votes = votes_of(ids, cues, corpus="sim", votes=(5, 5), dense=0, crowd=0, seed=1)
    ticked = votes.filter(pl.col("secondary").is_not_null())
    assert 0.2 < ticked.height / votes.height < 0.95
    assert not ticked.select(pl.col("secondary").list.contains(pl.col("label")).any()).item()
    assert ticked["secondary"].list.len().min() == 1


def test_crowd_zero_answers_as_voice_only_raters_of_acted_speech_do() -> None:
    people = [speaker(index) for index in range(60)]
    wanted = np.array([turn.wanted for turn in turns_of(2500, people, seed=11)])
    truth = true_distribution(wanted)
    chance = np.random.default_rng(0)
    three = np.stack([chance.multinomial(3, row) for row in truth])
    nine = np.stack([chance.multinomial(9, row) for row in truth])
    # The right-hand sides were counted in CREMA-D: 3,760 clips, 34,715 votes, 9.2 votes a clip.
    assert entropy(three / 3).mean() == pytest.approx(0.531, rel=0.10)
    assert entropy(nine / 9).mean() == pytest.approx(0.823, rel=0.10)
    assert (three.max(axis=1) == 3).mean() == pytest.approx(0.292, rel=0.10)
    shares = {"angry": 0.140, "disgust": 0.121, "fear": 0.120, "happy": 0.069, "neutral": 0.451, "sad": 0.099}
    assert dict(zip(LABELS, truth.mean(axis=0), strict=True)) == pytest.approx(shares, abs=0.03)


def test_dialogues_are_two_people_of_one_split_who_take_turns() -> None:
    people = [speaker(index) for index in range(24)]
    turns = turns_of(300, people, seed=2)
    assert [turn.number for turn in turns] == list(range(1, 301))
    splits: dict[int, str] = {}
    for number in range(1, max(turn.dialogue for turn in turns) + 1):
        inside = [turn for turn in turns if turn.dialogue == number]
        assert [turn.turn for turn in inside] == list(range(1, len(inside) + 1))
        assert len({turn.split for turn in inside}) == 1
        assert len({turn.speaker for turn in inside}) == min(2, len(inside))
        assert all(a.speaker != b.speaker for a, b in itertools.pairwise(inside))
        for turn in inside:
            assert splits.setdefault(turn.speaker, turn.split) == turn.split
    for split, share in SPLITS.items():
        assert sum(turn.split == split for turn in turns) / 300 == pytest.approx(share, abs=0.06)
        genders = [people[person].gender for person, place in splits.items() if place == split]
        assert 0.3 <= genders.count("female") / len(genders) <= 0.7

"""The worth in human votes over draws of the held-out votes: honest fits, and what an average over draws is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from alm_proxies.compare.draws import Pool, drawn
from alm_proxies.compare.material import Material, material_of
from alm_proxies.compare.worth import human_only, learning
from alm_proxies.estimators.counts import Counts, counts_of
from alm_proxies.estimators.gated import Gated
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")


def corpus(seed: int, *, utterances: int = 120, held_out: int = 4) -> tuple[Votes, Utterances]:
    """Three votes to fit and others held out, and a proxy that shares the truth; thirty speakers."""
    random = np.random.default_rng(seed)
    rows = []
    for number, share in enumerate(random.dirichlet(np.full(3, 0.6), utterances)):
        for draw, label in enumerate(random.choice(3, 3 + held_out, p=share)):
            rows.append((f"u{number:04}", "crowd", "human", draw, LABELS[label], draw >= 3))
        rows += [
            (f"u{number:04}", "proxy", "proxy", draw, LABELS[label], False)
            for draw, label in enumerate(random.choice(3, 6, p=share))
        ]
    names = ["utterance_id", "annotator", "source", "draw", "label", "held_out"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    people = pl.DataFrame({"utterance_id": [f"u{n:04}" for n in range(utterances)]}).with_columns(
        speaker=pl.Series([f"s{n % 30}" for n in range(utterances)])
    )
    return Votes.of(frame, taxonomy=LABELS), Utterances.of(people)


def laid_out(votes: Votes, utterances: Utterances) -> tuple[Material, Counts]:
    counts = counts_of(votes, utterances=utterances)
    labels = Gated(4, 0.01).fit(counts).predict(counts)
    return laid_out_for(labels, votes, utterances), counts


def laid_out_for(labels: Labels, votes: Votes, utterances: Utterances) -> Material:
    known = votes.frame["utterance_id"].unique()
    return material_of(labels, known, lambda _: votes, utterances, at_most=1000, seed=0)[0]


def test_every_draw_deals_the_same_votes_and_the_first_is_the_one_given() -> None:
    material, counts = laid_out(*corpus(0))
    pool = Pool.of(material, counts, np.ones(len(material), dtype=np.bool_), 3)
    random = np.random.default_rng(0)
    own, other = drawn(pool, random, as_given=True), drawn(pool, random, as_given=False)
    np.testing.assert_array_equal(own.counts(counts).human, counts.human)
    assert (other.counts(counts).human != counts.human).any()
    np.testing.assert_array_equal(other.counts(counts).human.sum(1), counts.human.sum(1))
    whole = material.human.counts() + material.held_out.counts()
    for draw in (own, other):
        left = draw.contexts((3, 6))
        # six beside the vote predicted are all of its utterance's seven votes
        np.testing.assert_allclose(left[6].contexts + left[6].targets, whole[left[6].rows])
        # three are the votes of the draw's fit, so that no vote that is predicted was fitted
        np.testing.assert_allclose(left[3].contexts, draw.counts(counts).human[left[3].rows])


def test_no_fit_of_a_draw_knows_a_vote_that_it_is_scored_on() -> None:
    material, counts = laid_out(*corpus(1))
    seen: list[Counts] = []

    def refit(known: Counts) -> list[Gated]:
        seen.append(known)
        return [Gated(2, 0.01).fit(known.only(())), Gated(2, 0.01).fit(known)]

    learned = learning(material, counts, human_only(counts, seed=0), seed=0, draws=3, refit=refit)
    assert learned is not None
    assert learned.draws == 3
    whole = material.human.counts() + material.held_out.counts()
    assert len(seen) == 3
    for known in seen:
        assert (known.human <= whole).all()
        assert (known.human.sum(1) == 3).all()


def test_an_average_over_draws_moves_less_with_the_seed_than_one_draw() -> None:
    material, counts = laid_out(*corpus(2))
    alone = human_only(counts, seed=0)

    def fused(draws: int, seed: int) -> float:
        learned = learning(material, counts, alone, seed=seed, draws=draws)
        assert learned is not None
        return learned.human[0].estimate

    single, several = ([fused(draws, seed) for seed in range(4)] for draws in (1, 8))
    assert np.std(several) < np.std(single)


def test_labels_of_the_refitted_fusion_have_its_own_worth() -> None:
    votes, utterances = corpus(3)
    counts = counts_of(votes, utterances=utterances)
    labels = Gated(seed=0).fit(counts).predict(counts)
    material = laid_out_for(labels, votes, utterances)
    learned = learning(material, counts, human_only(counts, seed=0), seed=0, draws=3)
    assert learned is not None
    given = learned.at.index(learned.given)
    assert learned.fused.estimate == pytest.approx(learned.with_proxies[given].estimate, abs=1e-9)
    assert learned.worth["all"].low <= learned.worth["all"].votes <= learned.worth["all"].high


def test_votes_without_any_for_the_fit_are_predicted_in_one_draw_as_in_several() -> None:
    votes, utterances = corpus(4)
    tested = pl.col("utterance_id").str.slice(1).cast(pl.Int64) < 60
    frame = votes.frame.with_columns(held_out=pl.col("held_out") | ((pl.col("source") == "human") & tested))
    material, counts = laid_out(Votes.of(frame, about=votes.about), utterances)
    learned = learning(material, counts, human_only(counts, seed=0), seed=0, draws=2)
    assert learned is not None
    assert learned.given in (0, 3)
    assert learned.at[0] == (0 if learned.given == 0 else 1)

"""The worth in human votes over draws of the held-out votes: honest fits, and what an average over draws is."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies.compare.averaged import Averaged
from alm_proxies.compare.draws import Pool, drawn
from alm_proxies.compare.material import Material, material_of
from alm_proxies.compare.refitted import MIXTURE_ROWS, EqualParts, refitted
from alm_proxies.compare.strata import agreement
from alm_proxies.compare.worth import Learning, learning
from alm_proxies.estimators.counts import Counts, Merge, counts_of
from alm_proxies.estimators.dirichlet import Weighted
from alm_proxies.estimators.gated import Gated
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")


def corpus(seed: int, *, utterances: int = 120, held_out: int = 4, truth: float = 1.0) -> tuple[Votes, Utterances]:
    """Three votes to fit and others held out, and a proxy that votes by the truth in a share of cases; 30 speakers."""
    random = np.random.default_rng(seed)
    rows = []
    for number, share in enumerate(random.dirichlet(np.full(3, 0.6), utterances)):
        for draw, label in enumerate(random.choice(3, 3 + held_out, p=share)):
            rows.append((f"u{number:04}", "crowd", "human", draw, LABELS[label], draw >= 3))
        rows += [
            (f"u{number:04}", "proxy", "proxy", draw, LABELS[label], False)
            for draw, label in enumerate(random.choice(3, 6, p=truth * share + (1.0 - truth) / 3))
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

    learned = learning(material, counts, seed=0, draws=3, refit=refit)
    assert learned is not None
    assert learned.draws == 3
    whole = material.human.counts() + material.held_out.counts()
    assert len(seen) == 3
    for known in seen:
        assert (known.human <= whole).all()
        assert (known.human.sum(1) == 3).all()


def test_an_average_over_draws_moves_less_with_the_seed_than_one_draw() -> None:
    material, counts = laid_out(*corpus(2))

    def fused(draws: int, seed: int) -> float:
        learned = learning(material, counts, seed=seed, draws=draws)
        assert learned is not None
        return learned.human[0].estimate

    single, several = ([fused(draws, seed) for seed in range(4)] for draws in (1, 8))
    assert np.std(several) < np.std(single)


def fused(votes: Votes, utterances: Utterances, **settings: Any) -> Learning:
    """The learning curve of labels fused with these settings."""
    labels = fuse(votes, FuseSettings(**settings), utterances=utterances, quiet=True).labels
    counts = counts_of(votes, utterances=utterances)
    material = laid_out_for(labels, votes, utterances)
    learned = learning(material, counts, seed=0, draws=3)
    assert learned is not None
    return learned


@pytest.mark.parametrize(
    "settings",
    [{"method": "gated", "classes": 3, "penalty": 0.05}, {"method": "weighted"}, {"method": "loglinear"}],
    ids=lambda settings: settings["method"],
)
def test_the_method_of_the_labels_is_refitted_with_its_sizes(settings: dict[str, Any]) -> None:
    learned = fused(*corpus(3), **settings)
    given = learned.at.index(learned.given)
    assert learned.fused.estimate == pytest.approx(learned.with_proxies[given].estimate, abs=1e-9)
    assert learned.worth["all"].low <= learned.worth["all"].votes <= learned.worth["all"].high
    assert (learned.refitted, learned.in_equal_parts) == (f"{settings['method']}, the method of the labels", False)
    assert learned.alone == settings["method"]


@pytest.mark.parametrize("method", ["auto", "chosen", "mixture"])
def test_on_few_utterances_the_curve_with_proxies_is_no_worse_than_labels_that_they_help(method: str) -> None:
    learned = fused(*corpus(2, utterances=60, truth=0.5), method=method)
    given = learned.at.index(learned.given)
    assert learned.refitted == "weighted, loglinear, gated and mixture in equal parts"
    assert learned.in_equal_parts
    assert learned.alone == "gated"
    assert learned.with_proxies[given].estimate <= learned.fused.estimate + 0.02
    for beside, alone in zip(learned.with_proxies, learned.human, strict=True):
        assert beside.estimate < alone.estimate


@pytest.mark.parametrize("speakers", [1, 2, 4, 5])
def test_with_fewer_than_five_speakers_curves_and_worth_have_no_interval(speakers: int) -> None:
    votes, utterances = corpus(4, utterances=60)
    names = pl.Series("speaker", [f"s{number % speakers}" for number in range(60)])
    learned = fused(votes, Utterances.of(utterances.frame.with_columns(names)), method="weighted")
    known = speakers == 5
    for interval in (*learned.human, *learned.with_proxies, learned.fused):
        assert (interval.method, interval.speakers) == ("percentile" if known else "none", speakers)
        assert np.isfinite([interval.low, interval.high]).all() == known
    assert np.isnan(learned.worth["all"].low) != known
    assert not np.isnan(learned.worth["all"].votes)


@pytest.mark.parametrize("speakers", [5, 8])
def test_intervals_over_few_speakers_hold_the_truth_about_as_often_as_they_say(speakers: int) -> None:
    random, held = np.random.default_rng(0), 0
    votes = np.full((1, speakers), 40.0)
    for seed in range(200):
        losses = 40.0 * random.normal(1.0, 0.2, speakers)
        apart = np.stack([losses, votes[0], np.zeros(len(losses))], axis=1)
        averaged = Averaged({"all": losses[None, :, None]}, {"all": votes}, {"all": apart}, {"all": speakers}, 1, 0)
        (interval,) = averaged.replicates(seed)["all"].curve(0)
        held += interval.low <= 1.0 <= interval.high
    assert held >= 200 * 0.85  # of three speakers three cases of four


def test_the_slow_mixture_is_refitted_on_small_corpora_only() -> None:
    labels = Labels.of(pl.DataFrame({"utterance_id": ["u"], "p_angry": [1.0], "p_happy": [0.0]}))
    assert refitted(labels, MIXTURE_ROWS, seed=0).words == "weighted, loglinear, gated and mixture in equal parts"
    assert refitted(labels, MIXTURE_ROWS + 1, seed=0).words == "weighted, loglinear and gated in equal parts"


def test_methods_in_equal_parts_are_their_mean_and_leave_utterances_without_proxies_to_human_votes() -> None:
    votes, utterances = corpus(5)
    some = pl.col("utterance_id").str.slice(1).cast(pl.Int64) < 90
    votes = Votes.of(votes.frame.filter((pl.col("source") == "human") | some), about=votes.about)
    counts = counts_of(votes, utterances=utterances)
    alone = Gated(seed=0).fit(counts.only(()))
    methods = (lambda _: Weighted(), lambda seed: Gated(4, 0.01, seed=seed))
    mean = EqualParts(methods, alone, seed=0).fit(counts).posterior(counts).mean
    first, second = (make(0).fit(counts).posterior(counts).mean for make in methods)
    np.testing.assert_allclose(mean[:90], (first[:90] + second[:90]) / 2)
    np.testing.assert_allclose(mean[90:], alone.posterior(alone.aligned(counts)).mean[90:])


def test_votes_predicted_from_the_same_votes_are_merged_and_none_is_lost() -> None:
    material, counts = laid_out(*corpus(6))
    pool = Pool.of(material, counts, np.ones(len(material), dtype=np.bool_), 3)
    draw = drawn(pool, np.random.default_rng(0), as_given=False)
    target = np.flatnonzero(~draw.fitted)
    for k, left in draw.contexts((0, 2, 3, 4, 6)).items():
        assert len(np.unique(np.column_stack([left.rows, left.contexts]), axis=0)) == len(left.rows)
        assert left.mass.sum() == len(target)
        np.testing.assert_allclose(left.contexts.sum(1), k)
        votes = np.zeros_like(counts.human)
        np.add.at(votes, left.rows, left.targets * left.mass[:, None])
        held_out = np.zeros_like(counts.human)
        np.add.at(held_out, pool.rows[target], pool.votes[target])
        np.testing.assert_allclose(votes, held_out)
    merged = draw.contexts((3,))[3]
    assert len(merged.rows) == len(material)


def test_strata_of_the_worth_are_those_of_the_scores_where_secondary_labels_count() -> None:
    votes, utterances = corpus(8)
    named = (pl.col("source") == "human") & (pl.col("draw") == 1)
    second = pl.when(named).then(pl.lit(["sad"])).otherwise(pl.lit([], dtype=pl.List(pl.String)))
    votes = Votes.of(votes.frame.with_columns(secondary=second), about=votes.about)
    counts = counts_of(votes, utterances=utterances, merge=Merge(primary=0.8, secondary=0.2))
    material = laid_out_for(Weighted().fit(counts).predict(counts), votes, utterances)
    learned = learning(material, counts, seed=0, draws=2)
    assert learned is not None
    values, sizes = np.unique(agreement(material.human.counts()), return_counts=True)
    assert "all agree" in values
    assert {name: worth.utterances for name, worth in learned.worth.items() if name != "all"} == dict(
        zip(values.tolist(), sizes.tolist(), strict=True)
    )


@pytest.mark.parametrize(("given", "at"), [(3, range(1, 13)), (11, range(1, 13)), (14, range(4, 16))])
def test_the_curve_reaches_beyond_the_votes_of_the_fit_however_many_they_are(given: int, at: range) -> None:
    votes, utterances = corpus(6, utterances=60, held_out=17)
    fitted = (pl.col("source") == "proxy") | (pl.col("draw") < given)
    material, counts = laid_out(Votes.of(votes.frame.with_columns(held_out=~fitted), about=votes.about), utterances)
    learned = learning(material, counts, seed=0, draws=2)
    assert learned is not None
    assert learned.given == given
    assert learned.at == tuple(at)
    at_given = learned.human[learned.at.index(given)].estimate
    assert learned.human[-1].estimate < at_given < learned.human[0].estimate
    low, high = learned.votes()[1:]
    assert at[0] - given <= low <= high


def test_labels_that_give_a_held_out_vote_no_probability_have_an_infinite_loss_on_the_curve() -> None:
    votes, utterances = corpus(7, utterances=90)
    counts = counts_of(votes, utterances=utterances)
    labels = Weighted().fit(counts).predict(counts)
    sure = np.eye(3)[labels.distributions().argmax(1)]
    frame = labels.frame.with_columns(*(pl.Series(f"p_{label}", sure[:, j]) for j, label in enumerate(LABELS)))
    hard = Labels.of(frame.drop("entropy", "ambiguity"), about=labels.about)
    learned = learning(laid_out_for(hard, votes, utterances), counts, seed=0, draws=2)
    assert learned is not None
    assert np.isposinf(learned.fused.estimate)
    assert np.isnan([learned.fused.low, learned.fused.high]).all()
    assert learned.votes() == (-2.0, -2.0, -2.0)
    assert all(np.isfinite(point.estimate) for point in (*learned.human, *learned.with_proxies))


def test_votes_without_any_for_the_fit_are_predicted_in_one_draw_as_in_several() -> None:
    votes, utterances = corpus(4)
    tested = pl.col("utterance_id").str.slice(1).cast(pl.Int64) < 60
    frame = votes.frame.with_columns(held_out=pl.col("held_out") | ((pl.col("source") == "human") & tested))
    material, counts = laid_out(Votes.of(frame, about=votes.about), utterances)
    learned = learning(material, counts, seed=0, draws=2)
    assert learned is not None
    assert learned.given in (0, 3)
    assert learned.at[0] == (0 if learned.given == 0 else 1)

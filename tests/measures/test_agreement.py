from __future__ import annotations

from itertools import combinations

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.measures import agreement as a


def count_table(matrix: np.ndarray, labels: int) -> np.ndarray:
    """Counts (units x labels) from raters x units of label numbers, -1 where a rater gave none."""
    return np.stack([(matrix == label).sum(0) for label in range(labels)], axis=1)


def alpha(votes) -> float:
    return float(a.alpha_of_sums(a.alpha_columns(np.asarray(votes)).sum(0, keepdims=True))[0])


matrices = arrays(np.int64, st.tuples(st.integers(2, 6), st.integers(1, 25)), elements=st.integers(-1, 3))


@settings(deadline=None)
@given(matrices)
def test_nominal_alpha_is_the_krippendorff_packages(matrix):
    counts = count_table(matrix, 4)
    ours = alpha(counts)
    pairable = counts[counts.sum(1) >= 2]
    if (pairable.sum(0) > 0).sum() < 2:
        assert np.isnan(ours)
        return
    data = np.where(matrix < 0, np.nan, matrix)
    assert ours == pytest.approx(krippendorff.alpha(reliability_data=data, level_of_measurement="nominal"))


def test_agreement_of_pairs_is_counted_over_every_pair():
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 3, (20, 5))
    by_hand = [np.mean([x == y for x, y in combinations(row, 2)]) for row in votes]
    np.testing.assert_allclose(a.pairwise_agreement(count_table(votes.T, 3)), by_hand)


def test_fleiss_kappa_with_equal_numbers_is_the_original_by_hand():
    # the worked example of Fleiss (1971) as tabulated widely: 10 subjects, 14 raters, kappa .210
    rows = "0 0 0 0 14|0 2 6 4 2|0 0 3 5 6|0 3 9 2 0|2 2 8 1 1|7 7 0 0 0|3 2 6 3 0|2 5 3 2 2|6 5 2 1 0|0 2 2 3 7"
    table = np.array([[int(cell) for cell in row.split()] for row in rows.split("|")])
    assert a.fleiss_kappa(table) == pytest.approx(0.20993, abs=1e-5)


def test_fleiss_kappa_with_unequal_numbers_weighs_each_utterance_the_same():
    rng = np.random.default_rng(1)
    truth = rng.dirichlet(np.full(4, 0.5), 3000)
    even = a.fleiss_kappa(rng.multinomial(4, truth))
    uneven = a.fleiss_kappa(np.stack([rng.multinomial(rng.integers(2, 12), row) for row in truth]))
    assert uneven == pytest.approx(even, abs=0.03)
    by_hand = np.array([[3, 0], [1, 1]])  # agreement (1 + 0) / 2, shares (.75, .25)
    assert a.fleiss_kappa(by_hand) == pytest.approx((0.5 - 0.625) / (1 - 0.625))


def test_agreement_cannot_be_told_from_one_vote_one_label_or_nothing():
    for nothing in (np.zeros((0, 3)), [[1, 0, 0]], [[0, 0, 0]]):
        assert np.isnan(alpha(nothing))
        assert np.isnan(a.fleiss_kappa(np.asarray(nothing)))
    unanimous = [[3, 0], [5, 0]]
    assert np.isnan(alpha(unanimous))
    assert np.isnan(a.fleiss_kappa(np.array(unanimous)))
    assert alpha([[3, 0], [0, 5]]) == 1
    assert a.fleiss_kappa(np.array([[3, 0], [0, 5]])) == 1


def test_alpha_gets_an_interval_by_speaker():
    rng = np.random.default_rng(2)
    counts = rng.multinomial(4, rng.dirichlet(np.full(4, 0.4), 500))
    among = a.among_raters(counts, np.arange(500) % 30)
    interval = among.alpha
    assert among.agreement.estimate == pytest.approx(np.mean(a.pairwise_agreement(counts)))
    assert among.kappa == a.fleiss_kappa(counts)
    assert interval.estimate == pytest.approx(alpha(counts))
    assert interval.low < interval.estimate < interval.high


def test_nan_and_wrong_matrices_are_refused():
    with pytest.raises(InputError, match="row 2"):
        a.among_raters([[1, 2], [np.nan, 1]], None)


def test_a_sample_without_replacement_takes_votes_as_likely_as_they_are_many():
    rng = np.random.default_rng(3)
    table = np.tile([6.0, 3.0, 0.0, 1.0], (20_000, 1))
    drawn = a.draw_without_replacement(table, 4, rng)
    assert (drawn.sum(1) == 4).all()
    assert (drawn <= table).all()
    np.testing.assert_allclose(drawn.mean(0), [2.4, 1.2, 0, 0.4], atol=0.03)


def test_proxies_that_vote_like_humans_agree_like_humans_however_many_they_are():
    rng = np.random.default_rng(4)
    truth = rng.dirichlet(np.full(5, 0.4), 3000)
    human, proxy = rng.multinomial(6, truth), rng.multinomial(20, truth)
    speakers = np.arange(3000) % 40
    shared = a.equal_votes(human, proxy, speakers, votes=3)
    for measure in (shared.jsd_base2, shared.agreement, shared.kappa):
        assert measure.difference.low < 0 < measure.difference.high
        assert measure.human_proxy.estimate == pytest.approx(measure.human_human.estimate, abs=0.02)
    blind = a.equal_votes(human, rng.multinomial(20, truth[rng.permutation(3000)]), speakers, votes=3)
    assert blind.jsd_base2.difference.low > 0
    assert blind.agreement.difference.high < 0
    assert abs(blind.kappa.human_proxy.estimate) < 0.05


def test_kappa_between_two_single_votes_is_cohens():
    rng = np.random.default_rng(5)
    first = rng.integers(0, 3, 400)
    second = np.where(rng.random(400) < 0.6, first, rng.integers(0, 3, 400))
    human = np.eye(3)[first] * 2  # two equal votes, so that one is left to compare with
    shared = a.equal_votes(human, np.eye(3)[second], np.arange(400) % 25, votes=1)
    assert shared.kappa.human_proxy.estimate == pytest.approx(cohen_kappa_score(first, second))
    assert shared.kappa.human_human.estimate == 1


def test_utterances_with_too_few_votes_are_left_out_and_counted():
    human = [[4, 0], [3, 0], [2, 2]]
    proxy = [[2, 0], [5, 5], [1, 0]]
    shared = a.equal_votes(human, proxy, None, votes=2)
    assert (shared.utterances, shared.left_out) == (1, 2)
    nothing = a.equal_votes(np.zeros((0, 2)), np.zeros((0, 2)), None)
    assert nothing.utterances == 0
    assert np.isnan(nothing.jsd_base2.human_human.estimate)
    with pytest.raises(SettingsError):
        a.equal_votes(human, proxy, None, votes=0)


def test_groups_are_compared_as_if_they_were_alone_and_small_ones_are_left_out():
    rng = np.random.default_rng(6)
    truth = rng.dirichlet(np.full(3, 0.5), 300)
    human, proxy = rng.multinomial(4, truth), rng.multinomial(5, truth)
    speakers = np.arange(300) % 25
    first = np.arange(300) < 200
    groups = {"gender": {"female": first, "male": ~first}, "corpus": {"small": np.arange(300) < 9}}
    every, within = a.equal_votes_by_group(human, proxy, speakers, groups, votes=2, fewest=10, seed=1)
    assert every == a.equal_votes(human, proxy, speakers, votes=2, seed=1)
    assert list(within) == ["gender"]
    assert within["gender"]["male"] == a.equal_votes(human[~first], proxy[~first], speakers[~first], votes=2, seed=1)
    with pytest.raises(InputError, match="whole votes"):
        a.equal_votes_by_group(human + 0.5, proxy, speakers, groups)

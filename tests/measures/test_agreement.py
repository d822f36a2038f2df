from __future__ import annotations

from itertools import combinations, product

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import hypergeom
from sklearn.metrics import cohen_kappa_score

from alm_proxies.ballots import Ballots
from alm_proxies.compare.plain import plain, reasons_in
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.measures import agreement as a
from alm_proxies.measures.divergence import jsd_base2
from alm_proxies.measures.tally import Tally


def count_table(matrix: np.ndarray, labels: int) -> np.ndarray:
    """Counts (units x labels) from raters x units of label numbers, -1 where a rater gave none."""
    return np.stack([(matrix == label).sum(0) for label in range(labels)], axis=1)


def whole(votes) -> Tally:
    return Tally.of_counts(votes)


def alpha(votes) -> float:
    return float(a.alpha_of_sums(a.alpha_columns(whole(votes)).sum(0, keepdims=True))[0])


def ballots(*utterances) -> Tally:
    """The tally of utterances with these votes, each a row of shares."""
    rows = np.repeat(np.arange(len(utterances)), [len(votes) for votes in utterances])
    vectors = np.array([vote for votes in utterances for vote in votes], dtype=float)
    zeros = np.zeros(len(rows), dtype=np.int64)
    return Tally.of(Ballots(rows, vectors, zeros, zeros, ("a",), len(utterances)))


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
    np.testing.assert_allclose(a.pairwise_agreement(whole(count_table(votes.T, 3))), by_hand)


def test_fleiss_kappa_with_equal_numbers_is_the_original_by_hand():
    # the worked example of Fleiss (1971) as tabulated widely: 10 subjects, 14 raters, kappa .210
    rows = "0 0 0 0 14|0 2 6 4 2|0 0 3 5 6|0 3 9 2 0|2 2 8 1 1|7 7 0 0 0|3 2 6 3 0|2 5 3 2 2|6 5 2 1 0|0 2 2 3 7"
    table = np.array([[int(cell) for cell in row.split()] for row in rows.split("|")])
    assert a.fleiss_kappa(whole(table)) == pytest.approx(0.20993, abs=1e-5)


def test_fleiss_kappa_with_unequal_numbers_weighs_each_utterance_the_same():
    rng = np.random.default_rng(1)
    truth = rng.dirichlet(np.full(4, 0.5), 3000)
    even = a.fleiss_kappa(whole(rng.multinomial(4, truth)))
    uneven = a.fleiss_kappa(whole([rng.multinomial(rng.integers(2, 12), row) for row in truth]))
    assert uneven == pytest.approx(even, abs=0.03)
    by_hand = np.array([[3, 0], [1, 1]])  # agreement (1 + 0) / 2, shares (.75, .25)
    assert a.fleiss_kappa(whole(by_hand)) == pytest.approx((0.5 - 0.625) / (1 - 0.625))


def test_agreement_cannot_be_told_from_one_vote_one_label_or_nothing():
    for nothing in (np.zeros((0, 3)), [[1, 0, 0]], [[0, 0, 0]]):
        assert np.isnan(alpha(nothing))
        assert np.isnan(a.fleiss_kappa(whole(nothing)))
    unanimous = [[3, 0], [5, 0]]
    assert np.isnan(alpha(unanimous))
    assert np.isnan(a.fleiss_kappa(whole(unanimous)))
    assert alpha([[3, 0], [0, 5]]) == 1
    assert a.fleiss_kappa(whole([[3, 0], [0, 5]])) == 1


def test_alpha_gets_an_interval_by_speaker():
    rng = np.random.default_rng(2)
    counts = rng.multinomial(4, rng.dirichlet(np.full(4, 0.4), 500))
    among = a.among_raters(whole(counts), np.arange(500) % 30)
    interval = among.alpha
    assert among.agreement.estimate == pytest.approx(np.mean(a.pairwise_agreement(whole(counts))))
    assert among.kappa == a.fleiss_kappa(whole(counts))
    assert interval.estimate == pytest.approx(alpha(counts))
    assert interval.low < interval.estimate < interval.high


def test_the_interval_of_alpha_lies_about_alpha_without_the_bias_of_few_speakers():
    """Where speakers differ in the emotions that they show, alpha over few of them is too low."""
    rng = np.random.default_rng(3)

    def corpus(speakers):
        who = np.repeat(np.arange(speakers), 30)
        shares = rng.gamma(1.5 * rng.dirichlet([1.2, 0.9, 0.6, 0.3], speakers)[who] + 1e-3)
        counts = [rng.multinomial(rng.integers(1, 6), row) for row in shares / shares.sum(1, keepdims=True)]
        return np.array(counts), who

    counts, who = corpus(8)
    interval = a.among_raters(whole(counts), who).alpha
    without = [alpha(counts[who != speaker]) for speaker in range(8)]
    assert interval.estimate == pytest.approx(alpha(counts))
    assert 0.5 * (interval.low + interval.high) == pytest.approx(8 * alpha(counts) - 7 * np.mean(without))
    truth = alpha(corpus(4000)[0])
    for speakers in (8, 22):
        intervals = [a.among_raters(whole(counts), who).alpha for counts, who in (corpus(speakers) for _ in range(150))]
        too_low = np.mean([interval.high < truth for interval in intervals])
        too_high = np.mean([interval.low > truth for interval in intervals])
        assert too_low <= 0.06
        assert too_high <= 0.04


def test_nan_and_wrong_matrices_are_refused():
    with pytest.raises(InputError, match="row 2"):
        a.among_raters(whole([[1, 2], [np.nan, 1]]), None)


def drawn_by_hand(votes, k, labels):
    """Every sample of k votes and every label of its shared votes: (probability, shares of the labels, votes taken)."""
    samples = list(combinations(range(len(votes)), k))
    for taken in samples:
        for answers in product(range(labels), repeat=k):
            chance = np.prod([votes[vote][label] for vote, label in zip(taken, answers, strict=True)])
            if chance > 0:
                yield chance / len(samples), np.bincount(answers, minlength=labels) / k, set(taken)


@pytest.mark.parametrize("k", [1, 2])
def test_equal_votes_are_the_mean_over_every_sample_and_every_label_of_shared_votes(k):
    rng = np.random.default_rng(8)
    one = np.eye(3)
    human = [[one[0], one[0], one[1], one[2]], [one[2], [0.5, 0.5, 0], one[1], one[1], one[0]]]
    proxy = [list(rng.dirichlet(np.ones(3), 3)), [one[1], *rng.dirichlet(np.ones(3), 2)]]
    apart, across, agree, mixed = np.zeros((4, 2))
    for place, (people, machines) in enumerate(zip(human, proxy, strict=True)):
        disjoint = 0.0
        for chance, p, taken in drawn_by_hand(people, k, 3):
            rest = [vote for number, vote in enumerate(people) if number not in taken]
            for other, q, _ in drawn_by_hand(rest, k, 3):
                disjoint += chance * other * jsd_base2(p, q)
            for other, q, _ in drawn_by_hand(machines, k, 3):
                across[place] += chance * other * jsd_base2(p, q)
        apart[place] = disjoint
        agree[place] = np.mean([np.dot(v, w) for v, w in combinations(people, 2)])
        mixed[place] = np.mean([np.dot(v, w) for v, w in product(people, machines)])
    equal = a.equal_votes(ballots(*human), ballots(*proxy), None, votes=k)
    assert equal.jsd_base2.human_human.estimate == pytest.approx(apart.mean(), abs=1e-12)
    assert equal.jsd_base2.human_proxy.estimate == pytest.approx(across.mean(), abs=1e-12)
    assert equal.agreement.human_human.estimate == pytest.approx(agree.mean(), abs=1e-12)
    assert equal.agreement.human_proxy.estimate == pytest.approx(mixed.mean(), abs=1e-12)


def test_neither_the_seed_nor_the_order_of_labels_moves_an_agreement_with_distributions():
    rng = np.random.default_rng(9)
    truth = rng.dirichlet(np.full(5, 0.4), 200)
    human, proxy = rng.multinomial(6, truth), rng.dirichlet(np.ones(5), (200, 3))
    order = rng.permutation(5)
    speakers = np.arange(200) % 25
    equal = a.equal_votes(whole(human), ballots(*proxy), speakers, votes=3)
    for seed, places in ((1, np.arange(5)), (0, order)):
        other = a.equal_votes(whole(human[:, places]), ballots(*proxy[:, :, places]), speakers, votes=3, seed=seed)
        for measure in ("jsd_base2", "agreement", "kappa"):
            for pair in ("human_human", "human_proxy", "difference"):
                values = [getattr(getattr(each, measure), pair).estimate for each in (equal, other)]
                assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_samples_of_whole_votes_are_hypergeometric():
    probabilities = whole([[6, 3, 0, 1]]).drawn(4)[0]
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_allclose(probabilities[0], hypergeom(10, 6, 4).pmf(np.arange(5)))
    np.testing.assert_allclose(probabilities @ np.arange(5), [2.4, 1.2, 0, 0.4])


def test_votes_shared_among_labels_agree_as_often_as_their_draws_do():
    shared = ballots([[0.5, 0.5], [1, 0]], [[0.5, 0.5], [0.5, 0.5], [0, 1]], [[1, 0], [1, 0]])
    np.testing.assert_allclose(a.pairwise_agreement(shared), [0.5, 0.5, 1])
    np.testing.assert_allclose(a.alpha_columns(shared)[:, 0], [1, 1.5, 0])  # votes x P(two differ)


def test_proxies_that_vote_like_humans_agree_like_humans_however_many_they_are():
    rng = np.random.default_rng(4)
    truth = rng.dirichlet(np.full(5, 0.4), 3000)
    human, proxy = whole(rng.multinomial(6, truth)), whole(rng.multinomial(20, truth))
    speakers = np.arange(3000) % 40
    shared = a.equal_votes(human, proxy, speakers, votes=3)
    for measure in (shared.jsd_base2, shared.agreement, shared.kappa):
        assert measure.difference.low < 0 < measure.difference.high
        assert measure.human_proxy.estimate == pytest.approx(measure.human_human.estimate, abs=0.02)
    blind = a.equal_votes(human, whole(rng.multinomial(20, truth[rng.permutation(3000)])), speakers, votes=3)
    assert blind.jsd_base2.difference.low > 0
    assert blind.agreement.difference.high < 0
    assert abs(blind.kappa.human_proxy.estimate) < 0.05


def test_kappa_between_two_single_votes_is_cohens():
    rng = np.random.default_rng(5)
    first = rng.integers(0, 3, 400)
    second = np.where(rng.random(400) < 0.6, first, rng.integers(0, 3, 400))
    human = whole(np.eye(3)[first] * 2)  # two equal votes, so that one is left to compare with
    shared = a.equal_votes(human, whole(np.eye(3)[second]), np.arange(400) % 25, votes=1)
    assert shared.kappa.human_proxy.estimate == pytest.approx(cohen_kappa_score(first, second))
    assert shared.kappa.human_human.estimate == 1


def test_where_all_votes_are_for_one_label_there_is_no_kappa_for_that_reason():
    rng = np.random.default_rng(6)
    alike, mixed = whole(np.full((60, 1), 4) * [[1, 0]]), whole(rng.multinomial(3, [0.5, 0.5], 60))
    speakers = np.arange(60) % 30
    same = reasons_in({"kappa": plain(a.equal_votes(alike, alike, speakers, votes=1).kappa)})
    assert same["kappa/human_human/value"] == "all human votes are for the same label"
    assert same["kappa/human_proxy/value"] == "all votes, of people and proxies, are for the same label"
    of_people = reasons_in({"kappa": plain(a.equal_votes(alike, mixed, speakers, votes=1).kappa)})
    assert "kappa/human_proxy/value" not in of_people
    assert of_people["kappa/difference/value"] == (
        "the kappa of human votes, or with proxies, is not known: all votes are for one label"
    )


def test_utterances_with_too_few_votes_are_left_out_and_counted():
    human = whole([[4, 0], [3, 0], [2, 2]])
    proxy = whole([[2, 0], [5, 5], [1, 0]])
    shared = a.equal_votes(human, proxy, None, votes=2)
    assert (shared.utterances, shared.left_out) == (1, 2)
    nothing = a.equal_votes(whole(np.zeros((0, 2))), whole(np.zeros((0, 2))), None)
    assert nothing.utterances == 0
    assert np.isnan(nothing.jsd_base2.human_human.estimate)
    with pytest.raises(SettingsError):
        a.equal_votes(human, proxy, None, votes=0)


def test_groups_are_compared_as_if_they_were_alone_and_small_ones_are_left_out():
    rng = np.random.default_rng(6)
    truth = rng.dirichlet(np.full(3, 0.5), 300)
    human, proxy = rng.multinomial(4, truth), rng.multinomial(5, truth)
    human[200:203] = 0
    speakers = np.arange(300) % 25
    first = np.arange(300) < 200
    groups = {"gender": {"female": first, "male": ~first}, "corpus": {"small": np.arange(300) < 9}}
    people, machines = whole(human), whole(proxy)
    every, within = a.equal_votes_by_group(people, machines, speakers, groups, votes=2, fewest=10, seed=1)
    assert every == a.equal_votes(people, machines, speakers, votes=2, seed=1)
    assert list(within) == ["gender"]
    males = a.equal_votes(whole(human[~first]), whole(proxy[~first]), speakers[~first], votes=2, seed=1)
    assert within["gender"]["male"] == males
    assert males.left_out == 3
    with pytest.raises(InputError, match="whole votes"):
        whole(human + 0.5)

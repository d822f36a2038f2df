"""The exchange test: a proxy that was trained on the fit votes is found, an honest one is not, however good."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from alm_proxies.measures.exchange import Exchange, Exchanges, exchange
from alm_proxies.tables import Utterances, Votes

LABELS = ("a", "b", "c", "d")


def exchange_of(votes: Votes, utterances: Utterances | None = None) -> list[Exchange]:
    exchanges = Exchanges(utterances)
    exchanges.add(votes)
    return exchanges.tests()


def world(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, fit votes, held-out votes, speakers."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(4, 0.6), size=n)
    fit, held = (np.stack([rng.multinomial(k, q) for q in truth]).astype(float) for k in (3, 4))
    return truth, fit, held, np.arange(n) % 30


def test_a_proxy_as_good_as_the_truth_itself_is_honest():
    truth, fit, held, speakers = world(seed=1)
    tested = exchange(np.maximum(truth, 1e-3), fit, held, speakers)
    assert not tested.knows
    assert tested.gap.low < 0 < tested.gap.high
    assert "no better" in tested.words()


def test_a_distribution_bent_towards_the_fit_votes_is_found():
    truth, fit, held, speakers = world()
    bent = 0.8 * truth + 0.2 * fit / 3
    tested = exchange(np.maximum(bent, 1e-3), fit, held, speakers)
    assert tested.knows
    assert tested.gap.low > 0
    assert "better than held-out" in tested.words()


def test_with_too_few_speakers_for_an_interval_the_sentence_has_none():
    truth, fit, held, speakers = world(seed=1)
    for proxy, knows in ((truth, False), (0.8 * truth + 0.2 * fit / 3, True)):
        tested = exchange(np.maximum(proxy, 1e-3), fit, held, speakers % 2)
        assert tested.knows is knows
        assert "nan" not in tested.words()
        assert "(" not in tested.words()


def test_speakers_of_very_unequal_size_and_pairs_of_votes_raise_no_more_false_alarms():
    """A t-test over these speakers is false in 6 to 9 of 100 cases at 1 %."""
    speakers = np.repeat(np.arange(12), [300, 60, 20, 10, 5, 5, 3, 2, 2, 1, 1, 1])
    for given, kept in ((3, 4), (1, 1), (1, 4)):
        accused = 0
        for seed in range(150):
            rng = np.random.default_rng([seed, given, kept])
            of_speaker = np.exp(rng.normal(0, 0.5, (12, 4)))[speakers]
            truth = rng.dirichlet(np.full(4, 0.7), size=len(speakers)) * of_speaker
            truth /= truth.sum(1, keepdims=True)
            fit, held = (np.stack([rng.multinomial(k, q) for q in truth]).astype(float) for k in (given, kept))
            accused += exchange(np.maximum(truth, 1e-3), fit, held, speakers).p_value < 0.01
        assert accused <= 6  # 1.5 expected; binomial 99.9 %


def test_honest_proxies_are_accused_as_often_as_the_level_says():
    accused = 0
    for seed in range(300):
        truth, fit, held, speakers = world(120, seed)
        noisy = np.random.default_rng(seed).dirichlet(np.ones(4), size=120)
        accused += exchange(0.5 * truth + 0.5 * noisy, fit, held, speakers).p_value < 0.05
    assert 4 <= accused <= 28  # 15 expected; binomial 99.9 %


@pytest.mark.parametrize(("given", "kept"), [(19, 1), (9, 1), (4, 1), (2, 1), (1, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize("rare_is_likely", [True, False])
def test_the_level_holds_however_unequal_the_numbers_of_votes_are(given: int, kept: int, rare_is_likely: bool):
    """Every utterance has one vote that differs: how many of these are held out is binomial, so the level is known."""
    for rows in (50, 74, 80, 116, 200):
        shares = np.tile([0.2, 0.8] if rare_is_likely else [0.8, 0.2], (rows, 1))
        false = 0.0
        for away in range(rows + 1):
            held_out = np.arange(rows) < away
            held = np.where(held_out[:, None], [kept - 1.0, 1.0], [kept, 0.0])
            fit = np.array([given + kept - 1.0, 1.0]) - held
            tested = exchange(shares, fit, held, None)
            false += tested.knows * binom.pmf(away, rows, kept / (given + kept))
        assert false < 0.01


def test_the_level_holds_where_few_of_many_utterances_make_the_gap():
    """Shares of the others are all but equal, so that these alone count, and they are too few for small steps."""
    for few in (1, 2, 3, 5, 8, 12, 20, 30):
        shares = np.tile([0.95, 0.05], (60, 1))
        shares[few:] = [0.5001, 0.4999]
        false = 0.0
        for away in range(few + 1):
            held_out = (np.arange(60) < away) | ((np.arange(60) >= few) & (np.arange(60) % 20 == 0))
            held = np.where(held_out[:, None], [0.0, 1.0], [1.0, 0.0])
            false += exchange(shares, np.array([19.0, 1.0]) - held, held, None).knows * binom.pmf(away, few, 0.05)
        assert false < 0.01


def test_few_utterances_whose_votes_differ_are_too_few_for_a_test():
    fit, held = np.tile([9.0, 0.0], (60, 1)), np.tile([1.0, 0.0], (60, 1))
    held[0] = [0.0, 1.0]
    tested = exchange(np.tile([0.9, 0.1], (60, 1)), fit, held, None)
    assert (tested.utterances, tested.differing) == (60, 1)
    assert tested.p_value > 0.0
    assert not tested.knows
    assert "only 1 of 60" in tested.words()


def test_a_proxy_that_rates_all_labels_alike_is_never_accused():
    """Its logarithms are equal but for rounding, which is no gap."""
    for labels in (3, 5, 7, 9):
        rng = np.random.default_rng(labels)
        fit, held = (rng.multinomial(k, np.full(labels, 1 / labels), size=300).astype(float) for k in (3, 4))
        for scale in (1.0, 0.1, 7.0):
            tested = exchange(np.full((300, labels), scale / labels), fit, held, np.arange(300) % 20)
            assert (tested.gap.estimate, tested.differing, tested.p_value) == (0.0, 0, 1.0)


def test_p_values_of_several_proxies_are_corrected_for_their_number():
    truth, fit, held, _ = world(200, seed=3)
    alone = [exchange_of(distributions(shares, fit, held))[0] for shares in (truth, 0.95 * truth + 0.05 * fit / 3)]
    frames = [distributions(shares, fit, held).frame for shares in (truth, 0.95 * truth + 0.05 * fit / 3)]
    other = frames[1].filter(pl.col("source") == "proxy").with_columns(annotator=pl.lit("n"))
    both = exchange_of(Votes.of(pl.concat([frames[0], other]), taxonomy=LABELS))
    raw = [tested.p_value for tested in alone]
    least = min(1.0, 2 * min(raw))
    assert [tested.p_value for tested in both] == pytest.approx(
        [least if p == min(raw) else max(least, p) for p in raw], rel=1e-9
    )


def test_utterances_without_both_kinds_of_votes_or_without_the_proxy_say_nothing():
    truth, fit, held, speakers = world(200)
    fit[:50] = 0
    held[50:100] = 0
    truth[100:140] = 0
    assert exchange(truth, fit, held, speakers).utterances == 60
    none = exchange(truth, np.zeros_like(fit), held, speakers)
    assert none.utterances == 0
    assert not none.knows


def test_every_proxy_of_a_table_of_votes_is_tested_by_name():
    truth, fit, held, speakers = world(300)
    rng = np.random.default_rng(1)
    rows = []
    for i in range(300):
        cast = [(label, held_out) for counts, held_out in ((fit, False), (held, True)) for label in range(4)
                 for _ in range(int(counts[i, label]))]  # fmt: skip
        rows += [(f"u{i:03d}", "c/crowd", "human", d, LABELS[label], h, 1.0) for d, (label, h) in enumerate(cast)]
        rows += [(f"u{i:03d}", "honest", "proxy", d, LABELS[rng.choice(4, p=truth[i])], False, 1.0) for d in range(5)]
        bent = 0.3 * truth[i] + 0.7 * fit[i] / 3
        rows += [(f"u{i:03d}", "trained", "proxy", 0, LABELS[j], False, bent[j]) for j in range(4) if bent[j] > 0]
    schema = ["utterance_id", "annotator", "source", "draw", "label", "held_out", "weight"]
    votes = Votes.of(pl.DataFrame(rows, schema=schema, orient="row"), taxonomy=LABELS)
    people = Utterances.of(
        pl.DataFrame({"utterance_id": [f"u{i:03d}" for i in range(300)], "speaker": [f"s{s}" for s in speakers]})
    )
    by_name = {tested.annotator: tested for tested in exchange_of(votes, people)}
    assert set(by_name) == {"honest", "trained"}
    assert by_name["trained"].knows
    assert not by_name["honest"].knows
    assert by_name["honest"].utterances == 300
    assert exchange_of(votes)[0].p_value == pytest.approx(by_name["honest"].p_value, abs=0.5)


def test_a_proxy_that_knows_nothing_is_honest_on_a_small_corpus_too():
    gaps = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        rows = []
        for number in range(60):
            answers = rng.choice(4, 4)
            for draw, (source, held) in enumerate(
                (("human", False), ("human", True), ("human", True), ("proxy", False))
            ):
                annotator = "m" if source == "proxy" else f"r{draw}"
                rows.append((f"u{number}", annotator, source, draw, LABELS[answers[draw]], held))
        names = ["utterance_id", "annotator", "source", "draw", "label", "held_out"]
        (tested,) = exchange_of(Votes.of(pl.DataFrame(rows, schema=names, orient="row"), taxonomy=LABELS))
        gaps.append(tested.gap.estimate)
    error = np.std(gaps) / np.sqrt(len(gaps))
    assert abs(np.mean(gaps)) < 4 * error, (np.mean(gaps), error)


def distributions(shares: np.ndarray, fit: np.ndarray, held: np.ndarray) -> Votes:
    """The votes of a proxy that gives these distributions, with the votes of humans."""
    rows = [(f"u{i:03d}", "m", "proxy", 0, LABELS[j], False, float(shares[i, j])) for i, j in np.ndindex(shares.shape)]
    for i in range(len(shares)):
        cast = [(j, away) for counts, away in ((fit, False), (held, True)) for j in range(4)
                for _ in range(int(counts[i, j]))]  # fmt: skip
        rows += [(f"u{i:03d}", "c/crowd", "human", d, LABELS[j], away, 1.0) for d, (j, away) in enumerate(cast)]
    schema = ["utterance_id", "annotator", "source", "draw", "label", "held_out", "weight"]
    frame = pl.DataFrame(rows, schema=schema, orient="row").filter(pl.col("weight") > 0)
    return Votes.of(frame, taxonomy=LABELS)


def test_a_proxy_that_gives_distributions_has_one_figure_from_its_shares_and_from_its_votes():
    truth, fit, held, speakers = world(300)
    people = Utterances.of(
        pl.DataFrame({"utterance_id": [f"u{i:03d}" for i in range(300)], "speaker": [f"s{s:02d}" for s in speakers]})
    )
    shares = 0.7 * truth + 0.3 * fit / 3
    (of_votes,) = exchange_of(distributions(shares, fit, held), people)
    of_shares = exchange(shares, fit, held, speakers)
    assert of_votes.gap.estimate == pytest.approx(of_shares.gap.estimate, abs=1e-9)
    assert (of_votes.gap.low, of_votes.gap.high) == pytest.approx((of_shares.gap.low, of_shares.gap.high), abs=1e-9)
    assert of_votes.words() == of_shares.words()
    by_hand = ((fit / 3 - held / 4) * np.log(np.maximum(shares, 1e-3))).sum(1).mean()
    assert of_shares.gap.estimate == pytest.approx(by_hand, abs=1e-9)


def test_a_distribution_that_is_sure_has_a_finite_gap():
    truth, fit, held, speakers = world(100)
    sure = np.where(truth > 0.5, 1.0, np.where(truth.max(1, keepdims=True) > 0.5, 0.0, truth))
    for tested in (exchange(sure, fit, held, speakers), *exchange_of(distributions(sure, fit, held))):
        assert np.isfinite(tested.gap.estimate)
        assert abs(tested.gap.estimate) < -np.log(1e-3)

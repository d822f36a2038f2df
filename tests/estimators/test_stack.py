"""auto: methods stacked by held-out votes; proxies count where they help, and the reported gain holds elsewhere."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from alm_proxies.estimators.account import account_of
from alm_proxies.estimators.contexts import contexts_of
from alm_proxies.estimators.counts import Block, Counts
from alm_proxies.estimators.dirichlet import Human, Weighted
from alm_proxies.estimators.estimator import Estimator, Posterior
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.loglinear import Loglinear
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.stack_methods import WITH, WITHOUT, Method

LABELS = ("a", "b", "c", "d")
pytestmark = pytest.mark.filterwarnings("ignore::alm_proxies.estimators.estimator.NotConvergedWarning")


def counts_with(human: np.ndarray, kind: str = "votes", **proxies: np.ndarray) -> Counts:
    n = len(human)
    blocks = tuple(
        Block(name, (name,), kind, x.astype(float), np.ones(n) if kind == "shares" else x.sum(1).astype(float))
        for name, x in proxies.items()
    )
    ids = pl.Series("utterance_id", [f"u{i:05d}" for i in range(n)])
    return Counts(LABELS, ids, human.astype(float), blocks, np.zeros((n, 0)), np.arange(n) % 25, True, None, ())


def crowd(n: int = 600, votes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Human votes, votes of a proxy with a confusion of its own, and the truth."""
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.dirichlet(0.3 + 3.0 * np.eye(4)[c]) for c in rng.integers(4, size=n)])
    human = np.stack([rng.multinomial(votes, q) for q in truth])
    confusion = 0.7 * np.eye(4)[[0, 2, 1, 3]] + 0.3 / 4
    return human, np.stack([rng.multinomial(10, q @ confusion) for q in truth]), truth


def loss(fit: Estimator, counts: Counts, truth: np.ndarray) -> float:
    return float(-(truth * np.log(fit.posterior(fit.aligned(counts)).mean)).sum(1).mean())


@pytest.fixture(scope="module")
def useful() -> tuple[Counts, np.ndarray, Stack]:
    human, proxy, truth = crowd()
    counts = counts_with(human, proxy=proxy)
    return counts, truth, Stack(folds=3).fit(counts)


@pytest.fixture(scope="module")
def alone(useful: tuple[Counts, np.ndarray, Stack]) -> Stack:
    """The stack of the same human votes without the proxy."""
    return Stack(folds=3).fit(useful[0].only([]))


def test_useful_proxies_count_and_the_labels_are_nearer_to_the_truth(useful, alone):
    counts, truth, stack = useful
    assert stack.proxies_ == ("proxy",)
    assert stack.share_ > 0.5
    assert loss(stack, counts, truth) < loss(alone, counts.only([]), truth) - 0.05


def test_the_stack_is_no_worse_than_any_of_its_methods(useful):
    counts, truth, stack = useful
    for method in WITH:
        single = method.makers[-1](0).fit(counts)
        assert loss(stack, counts, truth) < loss(single, counts, truth) + 0.003


def test_the_gain_is_said_for_each_number_of_given_votes_and_falls_with_it(useful):
    _, _, stack = useful
    assert [gain.context for gain in stack.learned_.gains] == [0, 1, 2]
    means = [gain.interval.estimate for gain in stack.learned_.gains]
    assert means == sorted(means)
    messages = {finding.kind: finding.message for finding in stack.findings_}
    assert messages["proxies"].startswith("the proxies count")
    assert f"2 given {means[2]:+.4f}" in messages["proxies"]
    assert "2 of the others given" in messages["chosen"]


def test_the_finding_and_the_account_have_the_same_weights(useful):
    counts, _, stack = useful
    (message,) = (finding.message for finding in stack.findings_ if finding.kind == "chosen")
    for level in account_of(stack, counts)["levels"]:  # the page of align shows share x weight of each method
        if level["share"] > 0:
            assert f"{100 * level['share']:.0f} % with" in message
            for method in level["methods"]:
                assert f"{method['method']} {level['share'] * method['weight']:.2f}" in message


def test_weights_of_the_trials_sum_to_one_and_name_both_levels(useful):
    _, _, stack = useful
    methods = stack.trials_.filter(pl.col("method") != "stack")
    assert methods["weight"].sum() == pytest.approx(1)
    assert (methods["weight"] > 0).all()
    assert set(methods.filter(pl.col("proxies").list.len() == 0)["method"]) == {m.name for m in WITHOUT}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shuffled_proxies_are_switched_off_and_change_no_label(seed):
    human, proxy, _ = crowd(400, seed=seed)
    noise = proxy[np.random.default_rng(seed).permutation(len(proxy))]
    counts = counts_with(human, noise=noise)
    stack = Stack(folds=3).fit(counts)
    assert stack.proxies_ == ()
    assert "switched off" in {f.kind: f.message for f in stack.findings_}["proxies"]
    alone = Stack(folds=3).fit(counts.only([]))
    assert np.array_equal(stack.posterior(counts).mean, alone.posterior(counts.only([])).mean)


def test_a_worthless_proxy_beside_a_useful_one_does_little_harm(useful):
    good, truth, of_good = useful
    human, proxy, _ = crowd()
    noise = np.random.default_rng(2).multinomial(10, [0.25] * 4, size=len(human))
    both = counts_with(human, proxy=proxy, noise=noise)
    fits = [Stack(folds=3).fit(both), of_good]
    assert "proxy" in fits[0].proxies_
    assert loss(fits[0], both, truth) < loss(fits[1], good, truth) + 0.003
    if fits[0].proxies_ == ("proxy",):
        assert "noise" in {f.kind: f.message for f in fits[0].findings_}["proxies_dropped"]
    added = dict(
        fits[0]
        .trials_.filter(pl.col("method").str.starts_with("loglinear less"))["method", "against_no_proxies"]
        .rows()
    )
    assert added["loglinear less proxy"] > 0.1
    assert abs(added["loglinear less noise"]) < 0.01


def test_two_useful_proxies_both_count_and_three_of_noise_are_dropped():
    human, proxy, truth = crowd(seed=4)
    rng = np.random.default_rng(4)
    second = np.stack([rng.multinomial(4, 0.6 * q + 0.1) for q in truth])
    noise = {f"noise{i}": rng.multinomial(6, [0.25] * 4, size=len(human)) for i in range(3)}
    stack = Stack(folds=3).fit(counts_with(human, proxy=proxy, second=second, **noise))
    assert {"proxy", "second"} <= set(stack.proxies_)
    assert len(stack.proxies_) <= 3


def test_a_copy_of_a_method_and_more_sizes_of_one_move_nothing():
    human, proxy, _ = crowd(200)
    counts = counts_with(human, proxy=proxy)
    plain = (Method("weighted", (lambda _: Weighted(),)), Method("loglinear", (lambda _: Loglinear(),)))
    copied = (*plain, Method("again", (lambda _: Weighted(),)))
    sizes = (Method("weighted", (lambda _: Weighted(), lambda _: Weighted())), plain[1])
    first, *others = (
        Stack(folds=3, methods=methods).fit(counts).posterior(counts) for methods in (plain, copied, sizes)
    )
    for other in others:
        assert np.allclose(first.mean, other.mean, atol=1e-6)
        assert np.allclose(first.concentration, other.concentration, rtol=1e-5)


class Remembers(Estimator):
    """A method that overfits: it knows the very votes of utterances it was fitted to, by the proxy's fractions."""

    name = "remembers"

    def _learn(self, counts: Counts) -> None:
        keys = counts.blocks[0].counts[:, 0]
        self.known_ = dict(zip(keys.tolist(), counts.human, strict=True))
        self.settled(type("Result", (), {"success": True, "nit": 1})())

    def posterior(self, counts: Counts) -> Posterior:
        own = [self.known_.get(key, np.zeros(4)) for key in counts.blocks[0].counts[:, 0].tolist()]
        total = 0.05 + counts.human + 100 * np.stack(own)
        return Posterior(total / total.sum(1, keepdims=True), total.sum(1))


def test_a_method_that_remembers_the_votes_it_was_fitted_to_is_given_no_credit():
    """Its fits know every vote; scored where it was fitted it would win by far."""
    human, proxy, truth = crowd(400)
    key = np.random.default_rng(5).random((400, 1))
    counts = counts_with(human, proxy=np.concatenate([key, proxy[:, 1:]], axis=1))
    own = Remembers().fit(counts).posterior(counts).mean
    assert -(human * np.log(own)).sum() / human.sum() < 0.7
    honest = Stack(folds=3, methods=WITH[:2]).fit(counts)
    tempted = Stack(folds=3, methods=(*WITH[:2], Method("remembers", (lambda _: Remembers(),)))).fit(counts)
    assert tempted.learned_.beside.weights["remembers"] < 0.1
    printed = {name: fit.learned_.gains[-1].interval.estimate for name, fit in (("h", honest), ("t", tempted))}
    assert printed["t"] > printed["h"] - 0.01
    alone = Stack(folds=3).fit(counts.only([]))
    true_gain = loss(tempted, counts, truth) - loss(alone, counts.only([]), truth)
    assert printed["t"] > true_gain - 0.1


def test_a_distribution_as_good_as_a_listener_is_used_with_a_strength_of_its_own():
    human, _, truth = crowd(800)
    rng = np.random.default_rng(8)
    shares = np.stack([rng.dirichlet(8 * q + 0.1) for q in truth])
    counts = counts_with(human, "shares", listener=np.maximum(shares, 1e-3) / np.maximum(shares, 1e-3).sum(1)[:, None])
    stack = Stack(folds=3).fit(counts)
    weights = stack.learned_.beside.weights
    assert weights["loglinear"] + weights["weighted"] > 0.75  # classes round a distribution, these two keep it whole
    assert loss(stack, counts, truth) < loss(Gated(16, 0.001).fit(counts), counts, truth) - 0.02
    fits = [Weighted().fit(counts), Loglinear().fit(counts)]
    assert all(loss(stack, counts, truth) < loss(fit, counts, truth) + 0.004 for fit in fits)
    power = Loglinear().fit(counts)
    assert np.trace(power.slope_[:4]) / 4 > 0.4


def test_one_vote_an_utterance_is_enough_to_find_that_proxies_help():
    human, proxy, truth = crowd(votes=1)
    counts = counts_with(human, proxy=proxy)
    stack = Stack(folds=3).fit(counts)
    assert stack.proxies_ == ("proxy",)
    assert stack.learned_part_ == 0.0
    assert loss(stack, counts, truth) < loss(Stack(folds=3).fit(counts.only([])), counts.only([]), truth) - 0.1


def with_second_votes(second: int, seed: int, n: int = 300) -> tuple[Counts, np.ndarray]:
    """Utterances with one vote, the first of them with two, and a proxy; listeners agree by about .3."""
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.dirichlet(0.55 + 1.55 * np.eye(4)[c]) for c in rng.integers(4, size=n)])
    human, more, proxy = (np.stack([rng.multinomial(votes, q) for q in truth]) for votes in (1, 1, 10))
    human[:second] += more[:second]
    return counts_with(human, proxy=proxy), truth


def test_a_few_second_votes_hardly_change_the_labels_of_utterances_with_one():
    """A strength that is learned from 30 pairs is noise: labels were .009 to .035 nats worse with them."""
    worse = []
    for seed in range(4):
        losses = []
        for second in (0, 30):
            counts, truth = with_second_votes(second, seed)
            stack = Stack(folds=3).fit(counts)
            losses.append(loss(stack, counts.rows(np.arange(60, 300)), truth[60:]))
        worse.append(losses[1] - losses[0])
    assert np.mean(worse) < 0.006


def test_the_doubt_about_proxies_grows_with_the_second_votes():
    shares = [Stack(folds=3).fit(with_second_votes(second, 0, 200)[0]).share_ for second in (0, 1, 100)]
    assert shares[0] > 0.999
    assert shares[1] > 0.995
    assert shares[2] < shares[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_labels_of_one_vote_promise_an_error_near_the_one_they_make_where_listeners_agree_as_assumed(seed):
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.dirichlet(0.55 + 1.55 * np.eye(4)[c]) for c in rng.integers(4, size=400)])
    human, proxy = (np.stack([rng.multinomial(votes, q) for q in truth]) for votes in (1, 10))
    counts = counts_with(human, proxy=proxy)
    stack = Stack(folds=3).fit(counts)
    labels = stack.posterior(stack.aligned(counts))
    error = np.square(truth - labels.mean).sum()
    promised = ((1 - np.square(labels.mean).sum(1)) / (labels.concentration + 1)).sum()
    assert stack.learned_part_ == 0.0
    assert 0.8 < error / promised < 1.1


def test_of_one_vote_an_utterance_nothing_of_the_level_without_proxies_is_kept_out_of_doubt():
    """Beside no vote that level is the corpus shares alone; with two votes an utterance the doubt has a say again."""
    shares = {}
    for votes in (1, 2):
        human, proxy, _ = crowd(n=150, votes=votes)
        shares[votes] = Stack(folds=3).fit(counts_with(human, proxy=proxy)).share_
    assert shares[1] > 0.99
    assert 0.5 < shares[2] < 0.97


def test_utterances_without_proxies_are_given_the_level_without_them(useful, alone):
    counts, _, stack = useful
    dark = counts.rows(np.arange(5)).without_proxies()
    assert np.allclose(stack.posterior(dark).mean, alone.posterior(dark.only([])).mean)
    assert np.allclose(stack.posterior(dark).concentration, alone.posterior(dark.only([])).concentration)


def test_the_order_of_utterances_and_the_size_of_parts_change_no_label(useful):
    counts, _, stack = useful
    whole = stack.posterior(counts)
    parts = [stack.posterior(counts.rows(np.arange(at, at + 150))) for at in range(0, 600, 150)]
    assert np.allclose(np.concatenate([p.mean for p in parts]), whole.mean, atol=1e-12)


def test_a_corpus_of_one_speaker_is_folded_by_utterance():
    human, proxy, _ = crowd()
    counts = replace(counts_with(human, proxy=proxy), speakers=np.zeros(len(human), dtype=np.int64))
    stack = Stack(folds=3).fit(counts)
    assert stack.proxies_ == ("proxy",)
    assert "all are of one speaker" in {f.kind: f.message for f in stack.findings_}["chosen"]


def test_two_speakers_give_no_interval_in_findings_trials_and_account():
    human, proxy, _ = crowd(200)
    counts = replace(counts_with(human, proxy=proxy, other=proxy[::-1]), speakers=np.arange(len(human)) % 2)
    stack = Stack(folds=2).fit(counts)
    (message,) = (f.message for f in stack.findings_ if f.kind == "proxies")
    assert "without an interval, which takes 3 speakers or more" in message
    assert stack.trials_["low"].is_nan().all()
    assert stack.trials_["high"].is_nan().all()
    gains = [proxy["lowers_log_loss_by"] for proxy in account_of(stack, counts)["proxies"]]
    assert [(gain["low"], gain["high"]) for gain in gains] == [(None, None)] * 2
    assert all(gain["value"] is not None for gain in gains)


def test_too_few_utterances_to_stack_are_said():
    human, proxy, _ = crowd(10)
    stack = Stack().fit(counts_with(human, proxy=proxy))
    assert [f.kind for f in stack.findings_] == ["too_few_to_choose"]
    assert stack.trials_.height == 0
    assert "weighted" in stack.words()
    assert Stack().fit(counts_with(human)).words().endswith("without proxies (human 1.00)")


def test_a_numeric_column_counts_like_a_proxy_where_it_helps():
    human, _, truth = crowd(500)
    rng = np.random.default_rng(6)
    loud = np.log(truth[:, :1]) + rng.normal(0, 0.3, (500, 1))
    useful, useless = (replace(counts_with(human), columns=c) for c in (loud, rng.normal(size=(500, 1))))
    assert Stack(folds=3).fit(useful).proxies_ == ("columns",)
    assert Stack(folds=3).fit(useless).proxies_ == ()


def test_cuts_give_every_number_of_votes_and_an_utterance_counts_its_votes_once():
    rng = np.random.default_rng(0)
    human = np.stack([rng.multinomial(k, [0.4, 0.3, 0.2, 0.1]) for k in rng.integers(0, 12, 80)])
    counts = counts_with(human)
    cuts = contexts_of(counts, 0)
    assert np.array_equal(cuts.given + cuts.left, human[cuts.rows])
    assert np.array_equal(cuts.given.sum(1), cuts.sizes)
    assert (cuts.left.sum(1) >= 1).all()
    per = np.bincount(cuts.rows, weights=cuts.targets.sum(1), minlength=80)
    assert np.allclose(per, human.sum(1))
    for row in np.flatnonzero(human.sum(1) == 3):
        own = cuts.rows == row
        assert set(cuts.sizes[own]) == {0, 1, 2}
        assert cuts.mass[own & cuts.last].sum() == pytest.approx(1)
        last = cuts.left[own & cuts.last].T @ cuts.mass[own & cuts.last]
        assert np.allclose(last, human[row] / 3)  # all but one given: every vote is left out once


def test_cuts_of_votes_that_share_their_mass_leave_out_whole_ballots():
    vectors = np.array([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0.9, 0, 0.1, 0]])
    counts = replace(counts_with(vectors.sum(0)[None]), draws=(np.zeros(3, dtype=np.int64), vectors))
    cuts = contexts_of(counts, 0)
    singles = cuts.left[cuts.last]
    assert sorted(map(tuple, singles.round(9))) == sorted(map(tuple, vectors))


def test_speakers_given_to_fit_make_the_folds_of_a_table_of_votes():
    from alm_proxies.tables import Votes

    human, _, _ = crowd(60)
    row, label = np.nonzero(human)
    times = human[row, label]
    ids = np.array([f"u{i:03d}" for i in range(60)])
    frame = pl.DataFrame(
        {
            "utterance_id": ids[np.repeat(row, times)],
            "annotator": "c/crowd",
            "label": np.array(LABELS)[np.repeat(label, times)],
        }
    )
    votes = Votes.of(frame, taxonomy=LABELS)
    named = Stack(folds=3).fit(votes, {name: f"s{i % 6}" for i, name in enumerate(ids.tolist())})
    assert named.learned_.by == "speakers"
    assert Stack(folds=3).fit(votes).learned_.by.startswith("utterances")
    assert Human().fit(votes).prior_votes_ > 0


def test_very_many_methods_of_little_weight_each_still_make_a_stack():
    human, proxy, _ = crowd(60)
    counts = counts_with(human, proxy=proxy)
    many = tuple(Method(f"weighted{i}", (lambda _: Weighted(),)) for i in range(25))
    plain = (Method("weighted", (lambda _: Weighted(),)),)
    first, second = (Stack(folds=2, methods=methods).fit(counts).posterior(counts) for methods in (many, plain))
    assert np.allclose(first.mean, second.mean, atol=1e-6)

"""One suite of edge cases over every method."""

import warnings
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.estimators.counts import Block, Counts
from alm_proxies.estimators.dirichlet import Dirichlet, Pool, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning, learned_part
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.names import METHODS as NAMES
from alm_proxies.estimators.names import page_name
from alm_proxies.estimators.supervised import Supervised
from alm_proxies.plugins import plugins
from alm_proxies.tables import Votes

FOUND = {name: plugin.load() for name, plugin in plugins("estimators").items() if not plugin.origin}
BY_RATER = [method for method in FOUND.values() if method.name in ("dawid_skene", "raters")]
"""Those that ask who cast each vote."""
METHODS = [method for method in FOUND.values() if method not in BY_RATER]
"""Those that learn from counts of votes."""
every = pytest.mark.parametrize("make", METHODS, ids=[m.name for m in METHODS])
SPARSE = [method for method in METHODS if method is not Supervised]
"""All but the ceiling, which is made for one number of votes and gives every label the same concentration."""
of_sparse_votes = pytest.mark.parametrize("make", SPARSE, ids=[m.name for m in SPARSE])
of_any_kind = pytest.mark.parametrize("make", FOUND.values(), ids=list(FOUND))


def test_the_suite_holds_every_estimator_there_is():
    assert len(METHODS) >= 10
    assert all(issubclass(method, Estimator) for method in METHODS)
    assert {method.name for method in (*METHODS, *BY_RATER)} == set(FOUND)


def test_every_method_has_one_name_for_pages_and_no_two_share_it():
    assert {method.name for method in (*METHODS, *BY_RATER)} == set(NAMES)
    assert len({page_name(method) for method in NAMES}) == len(NAMES)
    assert page_name("a_plugin") == "a_plugin"


def fitted(make, counts):
    """The estimator fitted to counts or the votes they count; None where it refuses them for too few dense votes."""
    if make in BY_RATER:
        return ThroughVotes(make()).fit(counts)
    if make is Supervised and Supervised().teaches(counts.human).sum() < 50:
        with pytest.raises(InputError, match="whole human votes or more"):
            make().fit(counts)
        return None
    return make().fit(counts)


class ThroughVotes:
    """An estimator of votes, given counts: every count becomes that number of votes of raters of their own."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, counts):
        self.estimator.fit(self.votes(counts))
        return self

    def predict(self, counts):
        return self.estimator.predict(self.votes(counts))

    def votes(self, counts):
        rows = []
        for source, name, array in (
            ("human", "r", counts.human),
            *(("proxy", b.name, b.counts) for b in counts.blocks),
        ):
            for utterance, row in zip(counts.utterances, array.astype(int), strict=True):
                labels = [label for label, count in zip(counts.labels, row, strict=True) for _ in range(count)]
                rows += [
                    (utterance, f"{name}{draw}" if source == "human" else name, source, draw, label)
                    for draw, label in enumerate(labels)
                ]
        schema = ["utterance_id", "annotator", "source", "draw", "label"]
        return Votes.of(pl.DataFrame(rows, schema=schema, orient="row"), taxonomy=counts.labels)


def counts_from(human, *blocks, kinds=None) -> Counts:
    human = np.asarray(human, dtype=float)
    n = len(human)
    kinds = kinds or ["votes"] * len(blocks)
    arrays = [np.asarray(block, dtype=float) for block in blocks]
    return Counts(
        labels=tuple(f"l{j}" for j in range(human.shape[1])),
        utterances=pl.Series("utterance_id", [f"u{i:05d}" for i in range(n)]),
        human=human,
        blocks=tuple(Block(f"m{b}", (f"m{b}",), kinds[b], x, x.sum(1)) for b, x in enumerate(arrays)),
        columns=np.zeros((n, 0)),
        speakers=np.arange(n),
        speakers_known=False,
        draws=None,
        findings=(),
    )


def cast(rng, n, labels, votes):
    truth = rng.dirichlet(np.full(labels, 0.5), size=n)
    return np.stack([rng.multinomial(v, q) for v, q in zip(np.broadcast_to(votes, n), truth, strict=True)]), truth


def proper(labels):
    p = labels.distributions()
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    assert np.allclose(p.sum(1), 1)
    concentration = labels.frame["concentration"].to_numpy()
    if labels.frame["concentration"].null_count() < len(labels):
        assert np.isfinite(concentration).all()
        assert (concentration > 0).all()
    return p, concentration


@of_any_kind
@pytest.mark.parametrize(("labels", "votes"), [(2, 1), (2, 100), (6, 3), (30, 1), (30, 5), (30, 100)])
def test_it_is_safe_for_few_and_many_labels_and_votes(make, labels, votes):
    rng = np.random.default_rng(labels * votes)
    human, truth = cast(rng, 60, labels, votes)
    proxy = np.stack([rng.multinomial(4, q) for q in truth])
    counts = counts_from(human, proxy)
    if (fit := fitted(make, counts)) is not None:
        proper(fit.predict(counts))


@of_sparse_votes
def test_numbers_of_votes_may_differ_from_1_to_100(make):
    rng = np.random.default_rng(1)
    human, _ = cast(rng, 100, 5, np.arange(1, 101))
    counts = counts_from(human)
    p, concentration = proper(make().fit(counts).predict(counts))
    assert np.corrcoef(human.sum(1), concentration)[0, 1] > 0.5
    assert np.abs(p[-1] - human[-1] / 100).max() < 0.1


@every
def test_unanimous_votes_give_a_sure_label_and_leave_the_others_possible(make):
    counts = counts_from(np.tile([6, 0, 0, 0], (50, 1)), np.tile([0, 5, 0, 0], (50, 1)))
    p, _ = proper(fitted(make, counts).predict(counts))
    assert (p > 0).all()
    if make is not Pool:
        assert (p[:, 0] > 0.6).all()


@of_any_kind
def test_a_single_utterance_with_a_single_vote_is_enough(make):
    counts = counts_from([[0, 1, 0]], [[0, 0, 1]])
    if (fit := fitted(make, counts)) is not None:
        p, _ = proper(fit.predict(counts))
        assert (p > 0).all()


@of_sparse_votes
def test_utterances_without_human_votes_get_a_label_of_smaller_concentration(make):
    rng = np.random.default_rng(2)
    human, truth = cast(rng, 200, 4, 6)
    proxy = np.stack([rng.multinomial(6, q) for q in truth])
    human[:50] = 0
    counts = counts_from(human, proxy)
    _, concentration = proper(make().fit(counts).predict(counts))
    assert np.median(concentration[:50]) < np.median(concentration[50:])


@of_sparse_votes
def test_utterances_without_any_vote_get_the_corpus_shares_and_claim_little(make):
    rng = np.random.default_rng(3)
    truth = rng.dirichlet([2.0, 0.5, 0.5, 0.5], size=200)
    human = np.stack([rng.multinomial(4, q) for q in truth])
    counts = counts_from(human, np.stack([rng.multinomial(6, q) for q in truth]))
    fit = make().fit(counts)
    nobody = counts_from(np.zeros((2, 4)), np.zeros((2, 4)))
    p, concentration = proper(fit.predict(nobody))
    assert np.abs(p - counts.shares).max() < 0.12
    assert (concentration < 8).all()


@of_any_kind
def test_a_source_may_be_absent_for_some_utterances_or_for_all(make):
    rng = np.random.default_rng(4)
    human, truth = cast(rng, 150, 4, 5)
    first, second = (np.stack([rng.multinomial(6, q) for q in truth]) for _ in range(2))
    second[::2] = 0
    fit = fitted(make, counts_from(human, first, second))
    proper(fit.predict(counts_from(human, first, second)))
    proper(fit.predict(counts_from(human, first)))
    proper(fit.predict(counts_from(human)))


@every
def test_without_human_votes_at_all_it_is_refused_in_one_sentence(make):
    why = "no human votes" if make().needs_people else "none has a label"
    with pytest.raises(InputError, match=why):
        make().fit(counts_from(np.zeros((5, 3)), np.zeros((5, 3))))
    if not make().needs_people:
        proper(make().fit(counts_from(np.zeros((5, 3)), np.ones((5, 3)))).predict(counts_from(np.zeros((5, 3)))))
        return
    with pytest.raises(InputError, match="no human votes"):
        make().fit(counts_from(np.zeros((5, 3)), np.ones((5, 3))))


@of_any_kind
def test_predicting_before_fitting_is_refused(make):
    estimator = ThroughVotes(make()) if make in BY_RATER else make()
    with pytest.raises(InputError, match="not been fitted"):
        estimator.predict(counts_from([[1, 0]]))


@of_any_kind
def test_other_labels_than_those_of_the_fit_are_refused(make):
    fit = fitted(make, counts_from(np.tile([[5, 1], [1, 5]], (40, 1))))
    with pytest.raises(InputError, match="one taxonomy"):
        fit.predict(counts_from([[1, 0, 0]]))


@of_any_kind
def test_the_same_votes_give_the_same_labels_to_the_bit(make):
    rng = np.random.default_rng(5)
    human, truth = cast(rng, 80, 4, 5)
    counts = counts_from(human, np.stack([rng.multinomial(6, q) for q in truth]))
    first, second = (fitted(make, counts).predict(counts).frame for _ in range(2))
    assert first.equals(second)


@pytest.mark.parametrize("make", [Dirichlet, Gated])
def test_label_probabilities_of_a_scorer_may_stand_beside_votes(make):
    rng = np.random.default_rng(6)
    human, truth = cast(rng, 200, 4, 3)
    counts = counts_from(
        human, np.stack([rng.multinomial(6, q) for q in truth]), 0.9 * truth + 0.025, kinds=["votes", "shares"]
    )
    p, _ = proper(make().fit(counts).predict(counts))
    alone, _ = proper(make().fit(counts.only([])).predict(counts.only([])))
    assert -(truth * np.log(p)).sum() < -(truth * np.log(alone)).sum()


@pytest.mark.parametrize("make", [Gated, Dirichlet, Weighted])
def test_single_votes_say_that_the_agreement_of_listeners_is_assumed(make):
    rng = np.random.default_rng(7)
    human, truth = cast(rng, 300, 4, 1)
    counts = counts_from(human, np.stack([rng.multinomial(8, q) for q in truth]))
    fit = make().fit(counts)
    assert fit.learned_part_ == 0.0
    p, _ = proper(fit.predict(counts))
    assert -(truth * np.log(p)).sum(1).mean() < -(truth * np.log(counts.shares)).sum(1).mean()


def second_votes(number, n=300):
    """Utterances with one vote, the first of them with two, and a proxy."""
    rng = np.random.default_rng(0)
    human, truth = cast(rng, n, 4, 1)
    more, proxy = (np.stack([rng.multinomial(votes, q) for q in truth]) for votes in (1, 8))
    human[:number] += more[:number]
    return counts_from(human, proxy)


def test_a_strength_is_learned_as_far_as_there_are_second_votes():
    given = [learned_part(second_votes(number), beside=False) for number in (0, 1, 30, 99, 100, 300)]
    assert given == pytest.approx([0, 0.01, 0.3, 0.99, 1, 1])
    beside = [learned_part(second_votes(number), beside=True) for number in (0, 30, 75, 150, 300)]
    assert beside == pytest.approx([0, 0.2, 0.5, 1, 1])  # half of the utterances are enough
    few = second_votes(40, 40)
    assert learned_part(few, beside=False) == learned_part(few, beside=True) == 1


@pytest.mark.parametrize("make", [Dirichlet, Weighted])
def test_one_more_second_vote_hardly_changes_a_label(make):
    """The 30th switched from the assumed strength to the learned one."""
    fits = [(make().fit(counts), counts) for counts in map(second_votes, range(26, 35))]
    means = [fit.posterior(fit.aligned(counts)).mean[60:] for fit, counts in fits]
    steps = [np.abs(a - b).sum(1).mean() / 2 for a, b in pairwise(means)]
    assert max(steps) < 0.006


def test_classes_are_learned_in_part_and_a_dirichlet_is_assumed_for_the_rest():
    counts = second_votes(60)
    fit = Gated(4).fit(counts)
    assert fit.learned_part_ == pytest.approx(0.4)
    means = {}
    for learned in (0.0, 0.4, 1.0):
        fit.learned_part_ = learned
        means[learned] = fit.posterior(fit.aligned(counts)).mean
    assert np.allclose(means[0.4], 0.4 * means[1.0] + 0.6 * means[0.0])
    assert not np.allclose(means[0.0], means[1.0], atol=0.01)


def test_a_column_of_the_utterances_can_steer_the_gate():
    rng = np.random.default_rng(8)
    truth = np.where(rng.random((400, 1)) < 0.5, [0.9, 0.1], [0.1, 0.9])
    human = np.stack([rng.multinomial(2, q) for q in truth])
    plain = counts_from(human)
    loud = np.where(truth[:, :1] > 0.5, 1.0, -1.0) + rng.normal(size=(400, 1))
    loud[:20] = np.nan
    from dataclasses import replace

    steered = replace(plain, columns=loud)
    p, alone = (Gated(4).fit(c).posterior(c).mean for c in (steered, plain))
    assert -(truth * np.log(p)).sum() < -(truth * np.log(alone)).sum()


def test_a_fit_stopped_early_warns():
    rng = np.random.default_rng(9)
    human, truth = cast(rng, 200, 4, 3)
    counts = counts_from(human, np.stack([rng.multinomial(6, q) for q in truth]))
    with pytest.warns(NotConvergedWarning, match="gated stopped after 3"):
        fit = Gated(4, iterations=3).fit(counts)
    assert not fit.converged_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Gated(4).fit(counts).converged_


def test_impossible_settings_are_refused():
    for make in (lambda: Gated(0), lambda: Gated(4, 0.0), lambda: Mixture(0)):
        with pytest.raises(SettingsError):
            make()


def test_votes_go_in_and_labels_come_out():
    frame = pl.DataFrame(
        {
            "utterance_id": ["a", "a", "a", "b", "b"],
            "annotator": ["r1", "r2", "m", "r1", "m"],
            "source": ["human", "human", "proxy", "human", "proxy"],
            "label": ["sad", "sad", "happy", "happy", "happy"],
        }
    )
    labels = Gated(classes=2).fit(votes := Votes.of(frame, taxonomy=["happy", "sad"])).predict(votes)
    assert labels.frame["utterance_id"].to_list() == ["a", "b"]
    assert labels.frame["human_votes"].to_list() == [2, 1]
    assert labels.frame["proxy_votes"].to_list() == [1, 1]
    assert labels.taxonomy == ("happy", "sad")


def test_informative_proxies_are_worth_something_and_none_are_worth_nothing():
    rng = np.random.default_rng(10)
    human, truth = cast(rng, 600, 4, 3)
    counts = counts_from(human, np.stack([rng.multinomial(10, q) for q in truth]))
    worth = Gated(8).fit(counts).predict(counts).frame["concentration_gain"]
    assert worth.median() > 0.5
    assert Gated(8).fit(counts.only([])).predict(counts.only([])).frame["concentration_gain"].abs().max() == 0

"""Proxies trained on human votes: their folds are the fit's folds, and those trained on the very votes are refused."""

import numpy as np
import polars as pl
import pytest

from alm_proxies.about import About, AnnotatorCard
from alm_proxies.errors import InputError
from alm_proxies.estimators.counts import counts_of
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.trials import folds_of, units_of
from alm_proxies.tables import Utterances, Votes

LABELS = ("a", "b", "c")
pytestmark = pytest.mark.filterwarnings("ignore::alm_proxies.estimators.estimator.NotConvergedWarning")


def table(card: AnnotatorCard | None, n: int = 60) -> Votes:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        q = rng.dirichlet([0.6] * 3)
        rows += [(f"u{i:03d}", "c/crowd", "human", d, LABELS[rng.choice(3, p=q)], 1.0) for d in range(3)]
        rows += [(f"u{i:03d}", "listener", "proxy", 0, LABELS[j], w) for j, w in enumerate(0.7 * q + 0.1)]
    schema = ["utterance_id", "annotator", "source", "draw", "label", "weight"]
    about = About(taxonomy=LABELS, annotators={"listener": card} if card is not None else {})
    return Votes.of(pl.DataFrame(rows, schema=schema, orient="row"), about=about)


def people(n: int = 60) -> Utterances:
    frame = pl.DataFrame({"utterance_id": [f"u{i:03d}" for i in range(n)], "speaker": [f"s{i % 6}" for i in range(n)]})
    return Utterances.of(frame)


FOLDS = {"s0": 0, "s1": 0, "s2": 1, "s3": 1, "s4": 2, "s5": 2}


def card(**fields: object) -> AnnotatorCard:
    return AnnotatorCard(digest="d", elicit="score", **fields)


def test_the_folds_a_proxy_was_trained_in_are_the_folds_of_the_fit():
    counts = counts_of(table(card(trained_on_these_votes="out_of_fold", folds=FOLDS)), utterances=people())
    fold = folds_of(counts, 5, 0)
    expected = [FOLDS[f"s{i % 6}"] for i in range(60)]
    assert fold.tolist() == expected
    part = counts.rows(np.arange(10, 30))
    assert folds_of(part, 5, 0).tolist() == expected[10:30]
    fit = Stack(folds=5).fit(counts)
    assert "'listener' was trained in" in {f.kind: f.message for f in fit.findings_}["chosen"]


def test_a_speaker_whose_fold_is_not_known_joins_the_smallest_fold_whole():
    known = {name: fold for name, fold in FOLDS.items() if name != "s5"}
    counts = counts_of(table(card(trained_on_these_votes="out_of_fold", folds=known)), utterances=people())
    fold = folds_of(counts, 5, 0)
    assert set(fold[5::6].tolist()) == {2}


def test_folds_by_utterance_serve_where_speakers_are_not_known():
    by_utterance = {f"u{i:03d}": i % 4 for i in range(60)}
    votes = table(card(trained_on_these_votes="out_of_fold", folds=by_utterance))
    assert folds_of(counts_of(votes), 5, 0).tolist() == [i % 4 for i in range(60)]


def test_folds_that_cannot_be_told_are_a_finding_and_the_fit_makes_its_own():
    votes = table(card(trained_on_these_votes="out_of_fold", folds={"someone else": 0, "another": 1}))
    counts = counts_of(votes, utterances=people())
    assert len(set(folds_of(counts, 5, 0).tolist())) == 5
    assert "folds_unknown" in [finding.kind for finding in Stack().fit(counts).findings_]


@pytest.mark.parametrize("speakers", [1, 2])
def test_of_few_speakers_the_folds_of_utterances_that_a_proxy_was_trained_in_are_the_folds_of_the_fit(speakers: int):
    by_utterance = {f"u{i:03d}": i % 4 for i in range(60)}
    people = Utterances.of(
        pl.DataFrame({"utterance_id": list(by_utterance), "speaker": [f"s{i % speakers}" for i in range(60)]})
    )
    counts = counts_of(table(card(trained_on_these_votes="out_of_fold", folds=by_utterance)), utterances=people)
    apart, by = units_of(counts)
    assert folds_of(apart, 5, 0).tolist() == [i % 4 for i in range(60)]
    assert by.startswith("utterances")
    assert by.endswith("those that 'listener' was trained in")
    found = {finding.kind: finding.message for finding in Stack(folds=5).fit(counts).findings_}
    assert "folds_unknown" not in found
    assert by in found["chosen"]


def test_folds_of_utterances_although_there_are_speakers_enough_are_a_finding_with_its_own_fix():
    by_utterance = {f"u{i:03d}": i % 4 for i in range(60)}
    counts = counts_of(table(card(trained_on_these_votes="out_of_fold", folds=by_utterance)), utterances=people())
    assert units_of(counts)[1] == "speakers"
    (finding,) = [f for f in Stack().fit(counts).findings_ if f.kind.startswith("folds")]
    assert (finding.kind, finding.where) == ("folds_share_speakers", "listener")


def test_a_proxy_trained_on_these_very_votes_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="'listener' was trained on the human votes"):
        counts_of(table(card(trained_on_these_votes="yes")))
    counts_of(table(card(trained_on_these_votes="no")))


def test_a_distribution_that_repeats_the_human_votes_is_found_and_an_honest_one_is_not():
    from alm_proxies.estimators.counts import Block, Counts
    from alm_proxies.estimators.leaks import leaking

    rng = np.random.default_rng(3)
    truth = np.stack([rng.dirichlet(0.3 + 3.0 * np.eye(4)[c]) for c in rng.integers(4, size=800)])
    human = np.stack([rng.multinomial(3, q) for q in truth]).astype(float)
    blocks = []
    for name, share in (("honest", truth), ("repeats", human / 3)):
        floored = np.maximum(share, 1e-3)
        shares = floored / floored.sum(1, keepdims=True)
        blocks.append(Block(name, (name,), "shares", shares, np.ones(800)))
    ids = pl.Series("utterance_id", [f"u{i:03d}" for i in range(800)])
    speakers = np.arange(800) % 25
    counts = Counts(tuple("abcd"), ids, human, tuple(blocks), np.zeros((800, 0)), speakers, True, None, ())
    assert set(leaking(counts)) == {"repeats"}


def test_where_all_votes_are_one_label_the_proxies_are_switched_off_and_it_says_why() -> None:
    rng = np.random.default_rng(2)
    rows = []
    for i in range(80):
        rows += [(f"u{i:03d}", "c/crowd", "human", d, "a", 1.0) for d in range(3)]
        first = 0.98 + 0.01 * rng.random()
        shares = first, (1 - first) / 2, (1 - first) / 2
        rows += [(f"u{i:03d}", "listener", "proxy", 0, LABELS[j], w) for j, w in enumerate(shares)]
    schema = ["utterance_id", "annotator", "source", "draw", "label", "weight"]
    votes = Votes.of(pl.DataFrame(rows, schema=schema, orient="row"), about=table(card()).about)
    fit = Stack(folds=5).fit(counts_of(votes, utterances=people(80)))
    message = {finding.kind: finding.message for finding in fit.findings_}["proxies"]
    assert fit.share_ == 0.0
    assert message.startswith("the proxies are switched off")
    assert message.endswith("too little")
    assert " with listener" not in fit.words()

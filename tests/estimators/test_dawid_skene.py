from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
from crowdkit.aggregation import DawidSkene as CrowdKit
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.estimators.dawid_skene import DawidSkene
from alm_proxies.estimators.estimator import NotConvergedWarning
from alm_proxies.tables import Votes

LABELS = ("angry", "happy", "neutral", "sad")


def crowd(seed: int = 0, utterances: int = 200, raters: int = 12, each: int = 4, labels=LABELS) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(labels), utterances)
    skill = rng.uniform(0.3, 0.95, raters)
    rater = np.argsort(rng.random((utterances, raters)), axis=1)[:, :each]
    right = rng.random(rater.shape) < skill[rater]
    label = np.where(right, truth[:, None], rng.integers(0, len(labels), rater.shape))
    return pl.DataFrame(
        {
            "utterance_id": [f"c/{row:04d}" for row in range(utterances) for _ in range(each)],
            "annotator": [f"c/r{number:02d}" for number in rater.ravel()],
            "label": [labels[number] for number in label.ravel()],
        }
    )


def crowd_kit(frame: pl.DataFrame, steps: int, labels=LABELS) -> np.ndarray:
    table = frame.select(task="utterance_id", worker="annotator", label="label").to_pandas()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns inside crowd-kit
        shares = CrowdKit(n_iter=steps, tol=-np.inf).fit_predict_proba(table)
    return shares.sort_index().reindex(columns=list(labels), fill_value=0.0).to_numpy()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), kinds=st.integers(2, 6), each=st.integers(1, 6), steps=st.integers(1, 6))
def test_posteriors_are_crowd_kits_after_the_same_steps(seed, kinds, each, steps):
    labels = ("angry", "happy", "neutral", "sad", "fear", "disgust")[:kinds]
    frame = crowd(seed, 60, 8, each, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        votes = Votes.of(frame, taxonomy=labels)
        ours = DawidSkene(iterations=steps, tolerance=0.0).fit(votes)
    # predict makes one more expectation step from what was learned
    expected = crowd_kit(frame, ours.iterations_ + 1, labels)
    np.testing.assert_allclose(ours.predict(votes).distributions(), expected, atol=1e-6)


def test_the_likelihood_never_falls_and_the_fit_says_when_it_settled():
    votes = Votes.of(crowd(), taxonomy=LABELS)
    fitted = DawidSkene().fit(votes)
    assert fitted.converged_
    assert np.diff(fitted.log_likelihood_).min() > -1e-9
    assert fitted.iterations_ == len(fitted.log_likelihood_)
    with pytest.warns(NotConvergedWarning, match="stopped after 2 iterations"):
        assert not DawidSkene(iterations=2).fit(votes).converged_


def test_confusion_matrices_find_the_good_and_the_bad_rater():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, 500)
    wrong = {"c/good": 0.1, "c/fair": 0.3, "c/other": 0.3, "c/blind": 1.0}
    rows = []
    for name, rate in wrong.items():
        answers = np.where(rng.random(500) < rate, rng.integers(0, 4, 500), truth)
        rows += [(f"c/{row:04d}", name, LABELS[label]) for row, label in enumerate(answers)]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "label"], orient="row")
    votes = Votes.of(frame, taxonomy=LABELS)
    fitted = DawidSkene().fit(votes)
    right = {name: fitted.confusion_[place].diagonal().mean() for place, name in enumerate(fitted.raters_)}
    assert right["c/good"] > 0.85 > right["c/fair"] > 0.6 > 0.4 > right["c/blind"]
    np.testing.assert_allclose(fitted.confusion_.sum(1), 1, atol=1e-8)
    assert fitted.raters_[-1] == "c/other"
    hits = (fitted.predict(votes).distributions().argmax(1) == truth).mean()
    assert hits > 0.93


def test_it_sharpens_ambiguity_away():
    # every utterance is heard angry by half of the raters and sad by the other half: no one label is true
    rng = np.random.default_rng(2)
    frame = crowd(3, 300, 12, 6).with_columns(label=pl.Series(rng.choice(["angry", "sad"], 1800)))
    votes = Votes.of(frame, taxonomy=LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        labels = DawidSkene().fit(votes).predict(votes)
    shares = votes.frame.group_by("utterance_id", maintain_order=True).agg((pl.col("label") == "angry").mean())
    assert labels.frame["p_angry"].std() > 1.15 * shares["label"].std()
    assert (labels.frame["entropy"] < 0.1).mean() > (shares["label"] % 1 == 0).mean()
    assert labels.frame["concentration"].is_null().all()


def test_order_of_rows_changes_nothing():
    frame = crowd()
    first, second = (
        Votes.of(frame, taxonomy=LABELS),
        Votes.of(frame.sample(fraction=1, shuffle=True, seed=1), taxonomy=LABELS),
    )
    ours, again = DawidSkene().fit(first).predict(first), DawidSkene().fit(second).predict(second)
    assert ours.frame["utterance_id"].to_list() == again.frame["utterance_id"].to_list()
    np.testing.assert_allclose(ours.distributions(), again.distributions(), atol=1e-9)


def test_the_draws_of_one_proxy_count_as_one_vote_together():
    frame = crowd().with_columns(source=pl.lit("human"), draw=pl.lit(0))
    ids = frame["utterance_id"].unique().sort()
    proxy = pl.DataFrame({"utterance_id": ids, "annotator": "bot", "label": "sad", "source": "proxy", "draw": 0})
    once = Votes.of(pl.concat([frame, proxy.select(frame.columns).cast(frame.schema)]), taxonomy=LABELS)
    more = [proxy.with_columns(draw=pl.lit(draw)).select(frame.columns).cast(frame.schema) for draw in range(7)]
    often = Votes.of(pl.concat([frame, *more]), taxonomy=LABELS)
    single, seven = DawidSkene().fit(once).predict(once), DawidSkene().fit(often).predict(often)
    np.testing.assert_allclose(single.distributions(), seven.distributions(), atol=1e-9)
    assert single.frame["proxy_votes"].to_list() == [1.0] * 200
    assert seven.frame["proxy_votes"].to_list() == [7.0] * 200
    assert seven.frame["human_votes"].to_list() == [4.0] * 200


def test_held_out_failed_and_consensus_votes_are_left_out_and_counted():
    frame = crowd().with_columns(held_out=False, status=pl.lit("ok"))
    plain = Votes.of(frame, taxonomy=LABELS)
    odd = pl.DataFrame(
        {
            "utterance_id": ["c/0000", "c/0001", "c/new"],
            "annotator": ["c/r77", "c/consensus", "c/r01"],
            "label": ["sad", "sad", None],
            "held_out": [True, False, False],
            "status": ["ok", "ok", "refused"],
        }
    )
    more = Votes.of(pl.concat([frame, odd]), taxonomy=LABELS)
    fitted = DawidSkene().fit(more)
    assert {finding.kind: finding.count for finding in fitted.findings_} == {
        "held_out": 1,
        "refused": 1,
        "consensus": 1,
    }
    predicted = fitted.predict(more).frame
    expected = DawidSkene().fit(plain).predict(plain).frame
    assert predicted.filter(pl.col("utterance_id") != "c/new").equals(expected)
    new = predicted.filter(pl.col("utterance_id") == "c/new")
    np.testing.assert_allclose(new.select([f"p_{label}" for label in LABELS]).to_numpy()[0], fitted.prior_)
    assert new["human_votes"][0] == 0


def test_a_rater_not_in_the_fit_is_read_by_the_pooled_matrix():
    votes = Votes.of(crowd(), taxonomy=LABELS)
    fitted = DawidSkene().fit(votes)
    strangers_vote = pl.DataFrame({"utterance_id": ["c/x"], "annotator": ["c/stranger"], "label": ["happy"]})
    shares = fitted.predict(Votes.of(strangers_vote, taxonomy=LABELS)).distributions()[0]
    expected = fitted.prior_ * fitted.confusion_[-1][LABELS.index("happy")]
    np.testing.assert_allclose(shares, expected / expected.sum())
    assert shares.argmax() == LABELS.index("happy")


@pytest.mark.parametrize("shape", ["one vote each", "unanimous", "one rater", "one utterance", "labels never used"])
def test_edge_cases_give_distributions(shape):
    frame = crowd()
    if shape == "one vote each":
        frame = frame.unique("utterance_id", maintain_order=True)
    elif shape == "unanimous":
        frame = frame.with_columns(label=pl.lit("sad"))
    elif shape == "one rater":
        frame = frame.unique("utterance_id", maintain_order=True).with_columns(annotator=pl.lit("c/only"))
    elif shape == "one utterance":
        frame = frame.head(3)
    else:
        frame = frame.filter(pl.col("label").is_in(["sad", "happy"]))
    votes = Votes.of(frame, taxonomy=LABELS)
    labels = DawidSkene().fit(votes).predict(votes)
    p = labels.distributions()
    assert len(p) == frame["utterance_id"].n_unique()
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-9)


def test_unknown_raters_nothing_and_wrong_settings_are_refused(wording):
    frame = crowd().with_columns(annotator=pl.lit("c/crowd"))
    votes = Votes.of(frame, taxonomy=LABELS)
    with wording.refused(InputError):
        DawidSkene().fit(votes)
    empty = Votes.of(votes.frame.clear(), taxonomy=LABELS)
    with wording.refused(InputError):
        DawidSkene().fit(empty)
    with wording.refused(InputError):
        DawidSkene().predict(votes)
    with wording.refused(SettingsError):
        DawidSkene(iterations=0)
    other = Votes.of(crowd(labels=("sad", "happy")), taxonomy=("sad", "happy"))
    with wording.refused(InputError):
        DawidSkene().fit(Votes.of(crowd(), taxonomy=LABELS)).predict(other)
    assert len(DawidSkene().fit(other).predict(Votes.of(other.frame.clear(), taxonomy=("sad", "happy")))) == 0

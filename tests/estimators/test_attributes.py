from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

from alm_proxies.ballots import left_out
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.estimators.attributes import Attributes
from alm_proxies.estimators.estimator import NotConvergedWarning
from alm_proxies.estimators.rating_doubt import _sampled
from alm_proxies.estimators.rating_model import ratings_of
from alm_proxies.tables import Votes


def rows(ids, annotator, source, value, draw=0) -> pl.DataFrame:
    frame = {
        "utterance_id": ids,
        "annotator": annotator,
        "source": source,
        "draw": draw,
        "label": None,
        "valence": value,
    }
    return pl.DataFrame(frame, schema_overrides={"label": pl.String, "draw": pl.Int32})


def world(seed=0, utterances=800, raters=30, each=3, proxies=()):
    """True means, raters' biases and spreads, and votes; a proxy is (name, draws, slope, error, noise)."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"c/{row:05d}" for row in range(utterances)])
    mean = rng.normal(0.5, 0.15, utterances).clip(0.1, 0.9)
    bias, spread = rng.normal(0, 0.08, raters), rng.uniform(0.05, 0.18, raters)
    rater = np.argsort(rng.random((utterances, raters)), axis=1)[:, :each]
    heard = (mean[:, None] + bias[rater] + rng.normal(size=rater.shape) * spread[rater]).clip(0, 1)
    names = np.array([f"c/r{number:03d}" for number in range(raters)])[rater.ravel()]
    parts = [rows(np.repeat(ids, each), names, "human", heard.ravel())]
    for name, draws, slope, error, noise in proxies:
        stated = 0.3 + slope * (mean - 0.3) + rng.normal(0, error, utterances)
        value = (stated[:, None] + rng.normal(0, noise, (utterances, draws))).clip(0, 1)
        draw = np.tile(np.arange(draws), utterances)
        parts.append(rows(np.repeat(ids, draws), name, "proxy", value.ravel(), draw))
    return mean, bias, spread, heard, pl.concat(parts)


def error_of(predicted: pl.DataFrame, mean: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predicted["valence"].to_numpy() - mean) ** 2)))


def fused(frame: pl.DataFrame) -> pl.DataFrame:
    votes = Votes.of(frame)
    return Attributes().fit(votes).predict(votes)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_nearer_to_the_true_mean_than_the_plain_average_and_knows_its_error(seed):
    mean, bias, spread, heard, frame = world(seed)
    votes = Votes.of(frame)
    fitted = Attributes().fit(votes)
    predicted = fitted.predict(votes)
    assert error_of(predicted, mean) < 0.9 * np.sqrt(np.mean((heard.mean(1) - mean) ** 2))
    assert predicted["valence_error"].mean() == pytest.approx(error_of(predicted, mean), rel=0.2)
    model = fitted.models_["valence"]
    assert model.converged
    assert np.corrcoef(bias, model.rater_bias)[0, 1] > 0.95
    assert np.corrcoef(spread**2, model.rater_variance)[0, 1] > 0.8


@pytest.mark.parametrize(("raters", "doubled"), [(20, 0), (100, 100), (100, 300)])
def test_the_error_is_the_error_where_few_utterances_have_two_ratings_and_raters_few_items(raters, doubled):
    for seed in range(3):
        mean, _, _, _, frame = world(seed, 1000, raters, 2)
        place = pl.int_range(pl.len())
        predicted = fused(frame.filter((place % 2 == 0) | (place < 2 * doubled)))
        inside = np.abs(predicted["valence"].to_numpy() - mean) < 1.96 * predicted["valence_error"].to_numpy()
        assert inside.mean() == pytest.approx(0.95, abs=0.045)
        assert error_of(predicted, mean) == pytest.approx(predicted["valence_error"].mean(), rel=0.15)


@pytest.mark.parametrize("human", [0.1, 0.16])
@pytest.mark.parametrize("error", [0.05, 0.1])
@pytest.mark.parametrize("doubled", [0, 50])
def test_a_proxy_beside_single_ratings_does_not_make_labels_surer_than_they_are(human, error, doubled):
    """With equal parts for utterances and listeners, 95 % intervals hold 30 to 60 % of the true means."""
    inside, off, stated = [], [], []
    for seed in range(3):
        rng = np.random.default_rng([seed, doubled])
        ids = np.array([f"c/{row:05d}" for row in range(800)])
        mean = rng.normal(0.5, 0.16, 800)
        frames = [rows(ids, "c/unknown", "human", mean + rng.normal(0, human, 800))]
        frames.append(rows(ids[:doubled], "c/unknown", "human", mean[:doubled] + rng.normal(0, human, doubled), 1))
        stated_mean = 0.2 + 0.6 * mean + rng.normal(0, error, 800)
        frames.append(rows(np.repeat(ids, 3), "c/bot", "proxy", np.repeat(stated_mean, 3), np.tile(range(3), 800)))
        every = pl.concat(frames).with_columns(pl.col("valence").clip(0, 1))
        predicted = fused(every)
        far = np.abs(predicted["valence"].to_numpy() - mean)
        inside.append((far < 1.96 * predicted["valence_error"].to_numpy()).mean())
        off.append(error_of(predicted, mean))
        stated.append(predicted["valence_error"].mean())
    assert np.mean(inside) > 0.88
    assert np.mean(stated) == pytest.approx(np.mean(off), rel=0.2)


def test_labels_are_averaged_over_models_only_where_second_ratings_are_few():
    proxies = [("bot", 3, 0.6, 0.06, 0.1)]
    many, few = (world(0, each=each, proxies=proxies)[-1] for each in (2, 1))
    for frame, models in ((many, 1), (few, 5)):
        votes = Votes.of(frame)
        weighed = Attributes().fit(votes).weighed_["valence"]
        assert len(weighed) == models
        assert sum(weight for weight, _ in weighed) == pytest.approx(1.0)
        variances = [model.variance + model.typical_variance for _, model in weighed]
        assert variances == pytest.approx([variances[0]] * models)


def test_where_no_utterance_has_two_ratings_nothing_says_how_far_listeners_differ():
    _, _, _, _, frame = world(0, 200, each=1)
    assert fused(frame)["valence_sd"].null_count() == 200
    again = pl.concat([frame, rows(["c/00000"], ["c/r999"], "human", [0.5])])
    assert fused(again)["valence_sd"].null_count() == 0


def test_a_useful_proxy_helps_and_a_worthless_one_does_no_harm():
    alone, useful, worthless = [], [], []
    for seed in range(3):
        mean, _, _, _, frame = world(seed, proxies=[("bot", 4, 0.6, 0.06, 0.1), ("noise", 4, 0.0, 0.2, 0.1)])
        bot, noise = pl.col("annotator") == "bot", pl.col("annotator") == "noise"
        alone.append(error_of(fused(frame.filter(~bot & ~noise)), mean))
        useful.append(error_of(fused(frame.filter(~noise)), mean))
        worthless.append(error_of(fused(frame.filter(~bot)), mean))
    assert np.mean(useful) < 0.95 * np.mean(alone)
    assert np.mean(worthless) < 1.005 * np.mean(alone)


def test_a_biased_proxy_is_calibrated_by_its_offset_and_slope():
    _, _, _, _, frame = world(1, 3000, proxies=[("bot", 3, 0.5, 0.05, 0.1)])
    model = Attributes().fit(Votes.of(frame)).models_["valence"]
    assert model.proxy_slope[0] == pytest.approx(0.5, abs=0.04)
    assert model.proxy_offset[0] == pytest.approx(0.15, abs=0.03)
    assert model.proxy_covariance[0, 0] == pytest.approx(0.05**2, rel=0.3)
    assert model.proxy_noise[0] == pytest.approx(0.1**2, rel=0.1)


def test_draws_that_differ_in_number_do_not_make_the_proxy_look_worse_than_it_is():
    """Half of the utterances have one noisy draw, half twenty: the noise is that of draws, not of the proxy."""
    _, _, _, _, frame = world(1, 3000, proxies=[("bot", 20, 0.6, 0.05, 0.15)])
    even = pl.col("utterance_id").str.slice(-1).cast(pl.Int32) % 2 == 0
    model = Attributes().fit(Votes.of(frame.filter(even | (pl.col("draw") == 0)))).models_["valence"]
    assert model.proxy_noise[0] == pytest.approx(0.15**2, rel=0.1)
    assert model.proxy_covariance[0, 0] == pytest.approx(0.05**2, rel=0.4)


def test_a_proxy_entered_four_times_or_drawn_a_hundred_times_is_no_more_sure():
    mean, _, _, _, frame = world(2, proxies=[("bot", 1, 0.6, 0.08, 0.0)])
    once = fused(frame)
    bot = frame.filter(pl.col("annotator") == "bot")
    four = [frame, *(bot.with_columns(annotator=pl.lit(f"copy{number}")) for number in range(3))]
    copied = fused(pl.concat(four))
    np.testing.assert_allclose(copied["valence"], once["valence"], atol=1e-3)
    np.testing.assert_allclose(copied["valence_error"], once["valence_error"], rtol=1e-2)
    drawn = [frame, *(bot.with_columns(draw=pl.lit(draw, dtype=pl.Int32)) for draw in range(1, 100))]
    repeated = fused(pl.concat(drawn))
    np.testing.assert_allclose(repeated["valence_error"], once["valence_error"], rtol=1e-2)
    assert error_of(repeated, mean) == pytest.approx(error_of(once, mean), rel=1e-2)


def test_a_proxy_entered_twice_beside_single_ratings_moves_nothing():
    _, _, _, _, frame = world(3, 400, each=1, proxies=[("bot", 3, 0.6, 0.06, 0.1)])
    bot = frame.filter(pl.col("annotator") == "bot").sample(fraction=1.0, shuffle=True, seed=1)
    assert fused(pl.concat([frame, bot.with_columns(annotator=pl.lit("copy"))])).equals(fused(frame))


def test_an_utterance_has_the_same_bytes_alone_and_among_others():
    proxies = [(f"bot{number}", 3, 0.6, 0.06, 0.1) for number in range(8)]
    _, _, _, _, frame = world(1, 200, each=1, proxies=proxies)
    fitted = Attributes().fit(Votes.of(frame))
    whole = fitted.predict(Votes.of(frame))
    for size in (1, 3, 7):
        for first in range(0, 28, size):
            ids = whole["utterance_id"][first : first + size]
            part = fitted.predict(Votes.of(frame.filter(pl.col("utterance_id").is_in(ids.implode()))))
            assert part.equals(whole[first : first + size])


def test_second_ratings_all_count_in_a_corpus_that_is_too_large_to_count_whole():
    """Where few of very many utterances are rated twice, these alone separate the utterances from the listeners."""
    _, _, _, _, few = world(0, 1500, each=2, proxies=[("bot", 3, 0.6, 0.06, 0.1)])
    _, _, _, _, many = world(1, 44_000, each=1, raters=20, proxies=[("bot", 3, 0.6, 0.06, 0.1)])
    twice = few.filter(pl.col("utterance_id") < "c/00120")
    twice = twice.with_columns(utterance_id=pl.format("a/{}", "utterance_id"))
    votes = Votes.of(pl.concat([twice, many]))
    fitted = Attributes().fit(votes)
    human = votes.frame.filter(pl.col("source") == "human")
    ids = human["utterance_id"].unique().sort()
    model = fitted.models_["valence"]
    ratings = ratings_of(human, votes.frame.filter(pl.col("source") == "proxy"), "valence", ids, model.raters, ("bot",))
    part, rows = _sampled(ratings, len(ids))
    assert 10_000 < rows <= 20_120
    assert (np.bincount(part.utterance, minlength=rows) == 2).sum() == 120


def test_sd_is_the_spread_of_people_and_stays_while_the_error_falls_with_votes():
    few, many = world(3, 1500, each=3), world(3, 1500, each=15)
    three, fifteen = fused(few[-1]), fused(many[-1])
    expected = np.sqrt(np.mean(few[2] ** 2) + few[1].var())
    assert three["valence_sd"].mean() == pytest.approx(expected, rel=0.1)
    assert fifteen["valence_sd"].mean() == pytest.approx(expected, rel=0.1)
    assert fifteen["valence_error"].mean() < 0.7 * three["valence_error"].mean()


def test_utterances_people_differ_on_have_a_wider_spread_but_less_than_three_ratings_say():
    rng = np.random.default_rng(4)
    own = np.where(np.arange(1000) < 500, 0.03, 0.15)
    ids = np.repeat([f"c/{row:05d}" for row in range(1000)], 4)
    heard = (0.5 + rng.normal(size=(1000, 4)) * own[:, None]).clip(0, 1)
    predicted = fused(rows(ids, np.tile([f"c/r{number}" for number in range(4)], 1000), "human", heard.ravel()))
    spread = predicted["valence_sd"].to_numpy()
    assert spread[500:].mean() > 2 * spread[:500].mean()
    raw = heard.std(1, ddof=1)
    assert spread[500:].std() < raw[500:].std()


def test_a_rater_with_few_items_keeps_a_small_bias_and_the_typical_variance():
    _, _, _, _, frame = world(5)
    odd = rows(["c/00000"], ["c/newcomer"], "human", [1.0])
    model = Attributes().fit(Votes.of(pl.concat([frame, odd]))).models_["valence"]
    place = model.raters.index("c/newcomer")
    assert 0 < model.rater_bias[place] < 0.25
    assert model.rater_variance[place] == pytest.approx(model.typical_variance, rel=1.5)


def test_an_utterance_without_a_rating_that_counts_has_no_value_instead_of_the_mean_of_the_corpus():
    _, _, _, _, frame = world(6, 200, proxies=[("bot", 2, 0.8, 0.05, 0.05)])
    votes = Votes.of(frame)
    fitted = Attributes().fit(votes)
    more = pl.concat(
        [
            rows(["c/a"], ["bot"], "proxy", [0.9]),
            rows(["c/b"], ["stranger"], "proxy", [0.9]),
            rows(["c/c"], ["c/stranger"], "human", [0.9]),
            rows(["c/d"], ["c/r001"], "human", [None]).with_columns(label=pl.lit("sad")),
        ]
    )
    predicted = fitted.predict(Votes.of(more, taxonomy=("happy", "sad")))
    model = fitted.models_["valence"]
    heard, prior = predicted["valence"].to_list(), model.mean
    assert heard[0] > prior + 0.1
    for name in ("valence", "valence_sd", "valence_error"):
        assert predicted[name].is_null().to_list() == [False, True, False, True]
    assert heard[2] > prior + 0.1
    assert predicted["arousal"].is_null().all()
    assert predicted["arousal_sd"].is_null().all()


def test_nothing_rated_gives_empty_columns():
    votes = Votes.of(
        pl.DataFrame({"utterance_id": ["c/1"], "annotator": ["c/a"], "label": ["sad"]}), taxonomy=["sad", "ok"]
    )
    predicted = Attributes().fit(votes).predict(votes)
    assert predicted.columns[:4] == ["utterance_id", "valence", "valence_sd", "valence_error"]
    assert predicted.select(pl.all().exclude("utterance_id").is_null().all()).row(0) == (True,) * 9
    empty = Votes.of(votes.frame.clear(), taxonomy=["sad", "ok"])
    assert Attributes().fit(empty).predict(empty).height == 0


@pytest.mark.parametrize("value", [[0.4], [0.4, 0.4, 0.4], [0.0, 1.0]])
def test_one_rating_equal_ratings_and_extreme_ratings_stay_inside_the_scale(value):
    ids = ["c/1"] * len(value)
    predicted = fused(rows(ids, [f"c/r{number}" for number in range(len(value))], "human", value))
    assert 0 <= predicted["valence"][0] <= 1
    equal = len(set(value)) == 1
    assert (predicted["valence_error"][0] is None) == equal  # nothing says how far the rating is from the truth
    assert (predicted["valence_sd"][0] is None) == (len(value) == 1)


def test_unknown_raters_have_no_bias_and_are_fused_all_the_same():
    mean, _, _, heard, frame = world(7)
    crowd = frame.with_columns(
        annotator=pl.lit("c/crowd"), draw=pl.int_range(pl.len(), dtype=pl.Int32).over("utterance_id")
    )
    votes = Votes.of(crowd)
    fitted = Attributes().fit(votes)
    assert fitted.models_["valence"].rater_bias.tolist() == [0.0]
    assert error_of(fitted.predict(votes), mean) < np.sqrt(np.mean((heard.mean(1) - mean) ** 2))


def test_held_out_and_consensus_ratings_never_reach_the_fit():
    _, _, _, _, frame = world(8, 200)
    plain = fused(frame)
    odd = pl.concat([rows(["c/00000"], ["c/consensus"], "human", [1.0]), rows(["c/00000"], ["c/r99"], "human", [1.0])])
    held = pl.concat([frame.with_columns(held_out=False), odd.with_columns(held_out=pl.Series([False, True]))])
    votes = Votes.of(held)
    fitted = Attributes().fit(votes)
    findings = left_out(votes, answer="rating")
    assert {finding.kind: finding.count for finding in findings} == {"held_out": 1, "consensus": 1}
    assert fitted.predict(votes).equals(plain)


def test_a_draw_whose_mass_is_shared_between_labels_is_one_rating():
    _, _, _, _, frame = world(9, 100)
    whole = frame.with_columns(label=pl.lit("sad"), weight=pl.lit(1.0))
    halves = pl.concat([whole.with_columns(label=pl.lit(label), weight=pl.lit(0.5)) for label in ("sad", "ok")])
    first, second = Votes.of(whole, taxonomy=["sad", "ok"]), Votes.of(halves, taxonomy=["sad", "ok"])
    first_labels, second_labels = Attributes().fit(first).predict(first), Attributes().fit(second).predict(second)
    np.testing.assert_allclose(first_labels["valence"], second_labels["valence"], atol=1e-12)


def test_order_of_rows_changes_nothing():
    _, _, _, _, frame = world(10, 100, proxies=[("bot", 3, 0.5, 0.1, 0.1)])
    shuffled, plain = fused(frame.sample(fraction=1, shuffle=True, seed=3)), fused(frame)
    assert shuffled["utterance_id"].equals(plain["utterance_id"])
    for column in ("valence", "valence_sd", "valence_error"):
        np.testing.assert_allclose(shuffled[column], plain[column], atol=1e-12)


def test_a_fit_that_has_not_settled_warns_and_wrong_use_is_refused():
    votes = Votes.of(world(11, 100)[-1])
    with pytest.warns(NotConvergedWarning, match="valence stopped after 1"):
        Attributes(iterations=1).fit(votes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Attributes().fit(votes)
    with pytest.raises(InputError, match="not been fitted"):
        Attributes().predict(votes)
    with pytest.raises(SettingsError):
        Attributes(prior_items=0)

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, r2_score

from alm_proxies.errors import InputError
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.measures.calibration import reliability
from alm_proxies.measures.divergence import brier, jsd_base2, nll_per_vote
from alm_proxies.measures.held_out import compare, held_out_counts, score_held_out
from alm_proxies.measures.jsd_floor import jsd_floor, jsd_floor_of_votes
from alm_proxies.measures.scores import Scored, scores_of
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "neutral", "sad")


def votes_of(counts: np.ndarray, labels=LABELS, ids=None, held_out=True) -> Votes:
    ids = ids if ids is not None else [f"c/{row:05d}" for row in range(len(counts))]
    place, label = np.nonzero(counts)
    many = counts[place, label].astype(int)
    frame = pl.DataFrame(
        {
            "utterance_id": np.repeat(np.array(ids, dtype=object)[place], many).astype(str),
            "annotator": "c/crowd",
            "label": np.repeat(np.array(labels)[label], many).astype(str),
            "held_out": held_out,
        }
    )
    return Votes.of(frame, taxonomy=labels)


def labels_of(shares: np.ndarray, labels=LABELS, ids=None, **columns) -> Labels:
    ids = ids if ids is not None else [f"c/{row:05d}" for row in range(len(shares))]
    frame = {"utterance_id": ids, **{f"p_{label}": shares[:, k] for k, label in enumerate(labels)}, **columns}
    return Labels.of(pl.DataFrame(frame), taxonomy=labels)


def utterances_of(rows: int, speakers: int = 25, **columns) -> Utterances:
    frame = {
        "utterance_id": [f"c/{row:05d}" for row in range(rows)],
        "speaker": [f"c/s{row % speakers:02d}" for row in range(rows)],
        **columns,
    }
    return Utterances.of(pl.DataFrame(frame))


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(4, 0.6), 600)
    counts = rng.multinomial(rng.integers(1, 9, 600), truth)
    guess = 0.8 * truth + 0.2 * rng.dirichlet(np.ones(4), 600)
    return truth, counts, guess


def test_scores_are_the_measures_over_all_utterances(world):
    _, counts, guess = world
    scored = score_held_out(labels_of(guess), votes_of(counts), utterances_of(600))
    n, share = counts.sum(1), counts / counts.sum(1, keepdims=True)
    assert scored.score("nll_per_vote") == pytest.approx((nll_per_vote(guess, counts) * n).sum() / n.sum())
    assert scored.score("jsd_base2") == pytest.approx(jsd_base2(guess, share).mean())
    assert scored.score("brier") == pytest.approx(brier(guess, counts).mean())
    assert scored.score("kld_nats") == pytest.approx(stats.entropy(share, guess, axis=1).mean())
    assert scored.score("bhattacharyya") == pytest.approx(np.sqrt(share * guess).sum(1).mean())
    uneven = share.std(1) > 1e-9
    within = [np.corrcoef(s, g)[0, 1] ** 2 for s, g in zip(share[uneven], guess[uneven], strict=True)]
    assert scored.score("r2_within_utterance") == pytest.approx(np.mean(within))
    assert scored.score("ece") == pytest.approx(reliability(guess, counts).error)
    assert scored.score("r2_over_utterances") == pytest.approx(r2_score(share, guess))
    top = counts == counts.max(1, keepdims=True)
    clear = top.sum(1) == 1
    true, guessed = counts[clear].argmax(1), guess[clear].argmax(1)
    assert scored.score("accuracy") == pytest.approx(accuracy_score(true, guessed))
    assert scored.score("uar") == pytest.approx(balanced_accuracy_score(true, guessed))
    assert scored.score("macro_f1") == pytest.approx(f1_score(true, guessed, average="macro"))
    everything = scored.scores.filter(pl.col("by") == "all")
    assert (everything["low"] <= everything["estimate"]).all()
    assert set(everything["speakers"]) == {25}
    assert set(everything["votes"]) == {float(n.sum())}


def test_macro_f1_is_over_the_full_list_of_labels():
    counts = np.array([[3, 0, 0, 0], [0, 3, 0, 0]])
    shares = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]])
    scored = score_held_out(labels_of(shares), votes_of(counts))
    assert scored.score("macro_f1") == 0.5
    assert scored.score("uar") == 1
    assert scored.score("accuracy") == 1


def test_with_ties_an_utterance_counts_in_equal_parts_for_each_of_its_most_voted_labels(world):
    _, counts, guess = world
    scored = score_held_out(labels_of(guess), votes_of(counts), utterances_of(600))
    true, guessed = [], []
    for votes, shares in zip(counts, guess, strict=True):
        tied = [label for label, number in enumerate(votes) if number == max(votes)]
        true += [label for label in tied for _ in range(12 // len(tied))]  # 12 copies, however many labels tie
        guessed += [int(shares.argmax())] * 12
    assert len(true) == 12 * 600
    assert scored.score("uar_with_ties") == pytest.approx(balanced_accuracy_score(true, guessed))
    assert scored.score("macro_f1_with_ties") == pytest.approx(f1_score(true, guessed, average="macro"))
    assert scored.score("uar_with_ties") < scored.score("uar")


def test_without_a_tie_both_pairs_of_hard_measures_are_the_same(world):
    _, counts, guess = world
    clear = np.eye(4, dtype=int)[counts.argmax(1)]
    scored = score_held_out(labels_of(guess), votes_of(clear), utterances_of(600))
    for measure in ("macro_f1", "uar"):
        assert scored.interval(f"{measure}_with_ties") == scored.interval(measure)


def test_a_prediction_of_one_of_two_tied_labels_is_half_correct():
    shares = np.array([[0.7, 0.1, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1]])
    scored = score_held_out(labels_of(shares), votes_of(np.array([[2, 2, 0, 0], [3, 0, 0, 0]])))
    assert scored.score("uar_with_ties") == pytest.approx((1.5 / 1.5 + 0 / 0.5) / 2)
    assert scored.score("macro_f1_with_ties") == pytest.approx(2 * 1.5 / (2 + 1.5) / 4)


def test_strata_and_groups_split_the_utterances(world):
    _, counts, guess = world
    gender = ["female" if row % 3 else None for row in range(600)]
    utterances = utterances_of(600, gender=gender)
    before = labels_of(np.full((600, 4), 0.25))
    scored = score_held_out(labels_of(guess), votes_of(counts), utterances, before=before, groups=["gender"])
    sizes = scored.scores.filter(pl.col("measure") == "jsd_base2").select("by", "value", "utterances")
    split = {by: dict(sizes.filter(pl.col("by") == by).select("value", "utterances").iter_rows()) for by in sizes["by"]}
    assert split["all"] == {"all": 600}
    assert list(split["outcome"]) == ["low", "medium", "high"]
    assert sum(split["outcome"].values()) == 600
    assert split["observable"] == {"high": 600}
    assert split["gender"] == {"female": 400, "unknown": 200}
    entropies = scored.per_utterance.group_by("outcome").agg(pl.len())
    assert entropies["len"].sum() == 600


def test_votes_that_were_not_held_out_are_refused(world, wording):
    _, counts, guess = world
    with wording.refused(InputError):
        score_held_out(labels_of(guess), votes_of(counts, held_out=False))
    with wording.refused(InputError):
        held_out_counts(Votes.of(votes_of(counts).frame.clear(), taxonomy=LABELS))


def test_missing_predictions_are_listed_and_the_rest_is_scored(world, wording):
    _, counts, guess = world
    ids = [f"c/{row:05d}" for row in range(600)]
    some = labels_of(guess[2:], ids=[*ids[2:599], "c/elsewhere"])
    scored = score_held_out(some, votes_of(counts))
    missing = scored.findings.frame.filter(pl.col("kind") == "no_prediction")["utterance_id"].to_list()
    assert missing == ["c/00000", "c/00001", "c/00599"]
    assert scored.findings.counts()["no_held_out_votes"] == 1
    assert scored.per_utterance.height == 597
    with wording.refused(InputError):
        score_held_out(labels_of(guess[:1], ids=["c/none"]), votes_of(counts))


def test_a_held_out_vote_without_a_label_is_counted():
    frame = pl.DataFrame(
        {
            "utterance_id": ["c/1", "c/1"],
            "annotator": ["c/a", "c/b"],
            "label": ["sad", None],
            "status": ["ok", "failed"],
            "held_out": [True, True],
        }
    )
    scored = score_held_out(labels_of(np.array([[0.1, 0.1, 0.1, 0.7]]), ids=["c/1"]), Votes.of(frame, taxonomy=LABELS))
    assert scored.findings.counts() == {"no_label": 1}
    assert scored.score("nll_per_vote") == pytest.approx(-np.log(0.7))
    assert scored.scores["low"].is_nan().all()


def test_a_certain_and_wrong_prediction_scores_infinite_without_spoiling_the_rest(world):
    _, counts, _ = world
    raw = np.eye(4)[counts.argmax(1)]
    scored = score_held_out(labels_of(raw), votes_of(counts), utterances_of(600))
    assert scored.score("nll_per_vote") == np.inf
    assert np.isfinite(scored.score("jsd_base2"))
    assert scored.concentration is None


def test_the_floor_is_what_the_truth_itself_scores(world):
    truth, counts, guess = world
    as_truth = score_held_out(labels_of(truth), votes_of(counts), truth=labels_of(truth))
    assert as_truth.score("jsd_floor") == pytest.approx(as_truth.score("jsd_base2"), abs=0.02)
    other = score_held_out(labels_of(guess), votes_of(counts), truth=labels_of(truth))
    assert other.score("jsd_floor") == pytest.approx(as_truth.score("jsd_floor"))
    assert other.score("jsd_base2") > other.score("jsd_floor")
    assert jsd_floor([[1.0, 0.0]], [5.0])[0] == 0
    few, many = jsd_floor(truth, np.full(600, 2)), jsd_floor(truth, np.full(600, 50))
    assert few.mean() > 3 * many.mean()


def test_without_a_truth_the_floor_is_that_of_the_votes_whatever_is_predicted(world):
    truth, counts, guess = world
    sharp = np.where(np.eye(4)[guess.argmax(1)] > 0, 0.97, 0.01)
    scored = [
        score_held_out(labels_of(shares, **kept), votes_of(counts))
        for shares, kept in ((guess, {}), (sharp, {"concentration": [50.0] * 600}))
    ]
    first, second = (each.per_utterance["jsd_floor"] for each in scored)
    assert first.equals(second, null_equal=True)
    assert first.is_null().to_list() == (counts.sum(1) < 2).tolist()
    floors = scored[0].scores.filter(pl.col("measure") == "jsd_floor")
    assert "all" in floors["by"]
    assert "outcome" not in floors["by"], "its strata are cut by the votes that the floor is estimated from"
    two = counts.sum(1) >= 2
    assert scored[0].score("jsd_floor") == pytest.approx(jsd_floor(truth[two], counts[two].sum(1)).mean(), rel=0.12)


@pytest.mark.parametrize(("votes", "off"), [(2, 0.1), (3, 0.1), (4, 0.06), (5, 0.06), (12, 0.06), (150, 0.06)])
def test_the_floor_of_votes_is_near_that_of_the_truth_and_its_interval_covers_it(votes, off):
    rng = np.random.default_rng(votes)
    classes = np.array([[10, 1, 1, 1, 0.5, 0.5], [1, 4, 0.2, 0.2, 4, 0.2], [0.2, 0.2, 8, 0.2, 1, 2], [0.6] * 6])
    gamma = rng.gamma(classes[rng.choice(4, 600, p=[0.4, 0.2, 0.2, 0.2])])
    truth = gamma / gamma.sum(1, keepdims=True)
    real = np.mean([jsd_floor(truth, np.full(600, votes), seed=seed).mean() for seed in range(5)])
    found = [
        mean_by_speaker(jsd_floor_of_votes(rng.multinomial(votes, truth), seed=seed), np.arange(600) % 25)
        for seed in range(12)
    ]
    assert np.mean([each.estimate for each in found]) == pytest.approx(real, rel=off)
    assert sum(each.low <= real * (1 + off) and real * (1 - off) <= each.high for each in found) >= 10


def test_the_floor_of_votes_is_nothing_where_raters_always_agree_and_unknown_of_one_vote_or_of_parts():
    assert jsd_floor_of_votes(np.tile([4.0, 0.0], (300, 1))).mean() == pytest.approx(0, abs=0.02)
    assert np.isnan(jsd_floor_of_votes([[1.0, 0.0], [1.5, 1.5]])).all()
    assert len(jsd_floor_of_votes(np.zeros((0, 4)))) == 0


def test_the_floor_is_over_the_utterances_whose_truth_is_known(world):
    truth, counts, guess = world
    part = labels_of(truth[:400], ids=[f"c/{row:05d}" for row in range(400)])
    scored = score_held_out(labels_of(guess), votes_of(counts), utterances_of(600), truth=part)
    known = scored.per_utterance["jsd_floor"].drop_nulls()
    assert len(known) == 400
    assert scored.score("jsd_floor") == pytest.approx(known.mean())
    assert scored.score("jsd_base2") == pytest.approx(scored.per_utterance["jsd_base2"].mean())


def test_the_floor_knows_that_an_uncertain_truth_is_sharper_than_its_mean():
    rng = np.random.default_rng(1)
    mean = rng.dirichlet(np.full(4, 3.0), 4000)
    gamma = rng.gamma(4.0 * mean)
    truth = gamma / gamma.sum(1, keepdims=True)
    real = jsd_floor(truth, np.full(4000, 4)).mean()
    believed = jsd_floor(mean, np.full(4000, 4), concentration=np.full(4000, 4.0)).mean()
    assert believed == pytest.approx(real, abs=0.005)
    assert jsd_floor(mean, np.full(4000, 4)).mean() > real + 0.02


def test_the_concentration_is_checked_where_it_is_known(world):
    _, counts, guess = world
    half = [5.0 if row % 2 else None for row in range(600)]
    scored = score_held_out(labels_of(guess, concentration=half), votes_of(counts))
    assert scored.concentration is not None
    assert scored.concentration.utterances == 300


def test_importance_weighs_utterances_and_absence_counts_nothing(world):
    _, counts, guess = world
    ids = [f"c/{row:05d}" for row in range(600)]
    first = labels_of(np.full((300, 4), 0.25), ids=ids[:300], weight=np.where(np.arange(300) < 100, 2.0, 0.0))
    scored = score_held_out(labels_of(guess), votes_of(counts), importance=first)
    alone = score_held_out(labels_of(guess), votes_of(np.where(np.arange(600)[:, None] < 100, counts, 0)))
    for measure in ("nll_per_vote", "jsd_base2", "accuracy", "macro_f1", "r2_over_utterances"):
        assert scored.score(measure) == pytest.approx(alone.score(measure))
    assert scored.findings.counts()["no_importance"] == 300


def test_two_predictions_are_compared_in_pairs_by_speaker(world, wording):
    truth, counts, guess = world
    utterances = utterances_of(600)
    better = score_held_out(labels_of(truth), votes_of(counts), utterances)
    worse = score_held_out(
        labels_of(guess[:500], ids=[f"c/{row:05d}" for row in range(500)]), votes_of(counts), utterances
    )
    compared = compare(better, worse).filter(pl.col("by") == "all")
    assert compared["utterances"].to_list() == [500, 500, 500]
    row = compared.row(0, named=True)
    assert row["measure"] == "nll_per_vote"
    assert row["high"] < 0
    assert row["p_value"] < 0.01
    n = counts[:500].sum(1)
    gap = nll_per_vote(truth[:500], counts[:500]) - nll_per_vote(guess[:500], counts[:500])
    assert row["difference"] == pytest.approx((gap * n).sum() / n.sum())
    same = compare(better, better).row(0, named=True)
    assert (same["difference"], same["p_value"]) == (0, 1)
    fewer = score_held_out(labels_of(truth), votes_of(np.minimum(counts, 1)), utterances)
    with wording.refused(InputError):
        compare(better, fewer)


def test_a_taxonomy_with_other_has_no_earth_movers_distance_and_others_have():
    counts = np.array([[2, 1], [1, 2]])
    shares = np.array([[0.5, 0.5], [0.4, 0.6]])
    assert "emd" in set(
        score_held_out(labels_of(shares, ("sad", "happy")), votes_of(counts, ("sad", "happy"))).scores["measure"]
    )
    other = score_held_out(labels_of(shares, ("sad", "other")), votes_of(counts, ("sad", "other")))
    assert "emd" not in set(other.scores["measure"])


def test_different_taxonomies_and_unknown_groups_are_refused(world, wording):
    _, counts, guess = world
    with wording.refused(InputError):
        score_held_out(labels_of(guess, LABELS[::-1]), votes_of(counts))
    with wording.refused(InputError):
        score_held_out(labels_of(guess), votes_of(counts), utterances_of(600), groups=["accent"])
    with wording.refused(InputError):
        score_held_out(labels_of(guess), votes_of(counts), groups=["gender"])


def test_on_real_votes_smoothing_beats_raw_shares_and_pooling_helps(test_data: Path):
    table = pl.read_csv(test_data / "crema_d" / "tabulatedVotes.csv", null_values="NA", infer_schema_length=None)
    letters = ["A", "D", "F", "H", "N", "S"]
    table = table.with_columns(modality=pl.col("").cast(pl.Int64) // 100_000)
    voice = table.filter((pl.col("modality") == 1) & (pl.sum_horizontal(letters) >= 8)).sort("fileName")
    both = voice.select("fileName").join(table.filter(pl.col("modality") == 3), on="fileName", maintain_order="left")
    counts, proxy = voice.select(letters).to_numpy(), both.select(letters).to_numpy()
    names = ("angry", "disgust", "fear", "happy", "neutral", "sad")
    rng = np.random.default_rng(0)
    kept = np.stack([rng.multivariate_hypergeometric(row, 3) for row in counts])
    ids = voice["fileName"].to_list()
    speakers = [name[:4] for name in ids]
    utterances = Utterances.of(pl.DataFrame({"utterance_id": ids, "speaker": speakers}))
    held = votes_of(counts - kept, names, ids)
    prior = kept.sum(0) / kept.sum()
    raw = score_held_out(labels_of(kept / 3, names, ids), held, utterances)
    smooth = score_held_out(labels_of((kept + prior) / 4, names, ids), held, utterances)
    pooled = kept + proxy
    pool = score_held_out(labels_of(pooled / pooled.sum(1, keepdims=True), names, ids), held, utterances)
    assert raw.score("nll_per_vote") == np.inf
    assert smooth.score("jsd_base2") < raw.score("jsd_base2")
    assert pool.score("jsd_base2") < raw.score("jsd_base2")
    assert compare(smooth, raw).filter(pl.col("measure") == "jsd_base2")["high"][0] < 0
    assert raw.score("jsd_base2", "outcome", "high") > raw.score("jsd_base2", "outcome", "low")


@pytest.mark.parametrize(("speakers", "each", "gap"), [(41, 1, 0.15), (8, 30, 0.0), (30, 12, 0.0), (60, 12, 0.05)])
def test_the_interval_of_the_calibration_error_holds_it_also_near_zero(speakers: int, each: int, gap: float):
    random, inside = np.random.default_rng(4), 0
    for _ in range(100):
        confidence = random.uniform(0.55, 0.95, speakers * each)
        right = random.binomial(2, confidence - gap)
        scored = Scored(
            np.stack([confidence, 1 - confidence], axis=1), np.stack([right, 2 - right], axis=1).astype(float),
            np.repeat(np.arange(speakers), each), np.ones(speakers * each), {},
        )  # fmt: skip
        ece = scores_of(scored)["ece"]
        assert ece.method == "gaps"
        assert 0 <= ece.low <= ece.estimate <= ece.high <= 1
        inside += ece.low <= gap <= ece.high
    assert inside >= 92  # basic intervals, without the bias of resamples, hold 0 in fewer than half of the cases


def test_the_interval_of_a_large_calibration_error_is_above_zero():
    random = np.random.default_rng(5)
    confidence = random.uniform(0.55, 0.95, 400)
    right = random.binomial(3, confidence - 0.3).astype(float)
    shares, votes = np.stack([confidence, 1 - confidence], axis=1), np.stack([right, 3 - right], axis=1)
    ece = scores_of(Scored(shares, votes, np.arange(400) % 40, np.ones(400), {}))["ece"]
    assert 0.2 < ece.low < 0.3 < ece.high < 0.4

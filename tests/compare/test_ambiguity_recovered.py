"""Strength, ambiguity and strata cut by other votes: what they are on made-up votes whose truth is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from alm_proxies.ballots import Array
from alm_proxies.compare.ambiguity import FIT, OTHERS, halved_of, halved_section, recovered_of, rows_of
from alm_proxies.compare.comparison import Comparison, compare
from alm_proxies.compare.plain import plain, reasons_in
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad", "neutral")
N = 2400


@cache
def predictions(seed: int = 0, held_out: int = 6, strength: float = 6.0) -> tuple[dict[str, Labels], Comparison, Array]:
    """The truth, the truth made over-confident, and one distribution for all, against held-out votes of the truth."""
    random = np.random.default_rng(seed)
    mean = random.dirichlet(np.full(4, 0.7), N)
    truth = np.array([random.dirichlet(np.maximum(strength * row, 1e-3)) for row in mean])
    fitted = np.array([random.multinomial(3, row) for row in truth]).astype(np.float64)
    ids = [f"u{number:05}" for number in range(N)]
    rows = [
        (ids[number], draw, LABELS[label])
        for number, share in enumerate(truth)
        for draw, label in enumerate(random.choice(4, held_out, p=share))
    ]
    frame = pl.DataFrame(rows, schema=["utterance_id", "draw", "label"], orient="row").with_columns(
        annotator=pl.lit("crowd"), source=pl.lit("human"), held_out=pl.lit(True)
    )
    votes = Votes.of(frame, taxonomy=LABELS)
    people = pl.DataFrame({"utterance_id": ids, "speaker": [f"s{number % 40}" for number in range(N)]})

    def labels(shares: Array, concentration: float | None) -> Labels:
        columns = {f"p_{label}": shares[:, place] for place, label in enumerate(LABELS)}
        table = pl.DataFrame({"utterance_id": ids, **columns}).with_columns(
            concentration=pl.lit(concentration, dtype=pl.Float64)
        )
        return Labels.of(table, taxonomy=LABELS)

    sharp = mean**2 / (mean**2).sum(1, keepdims=True)
    tables = {
        "same": labels(np.tile(truth.mean(0), (N, 1)), None),
        "mean": labels(mean, strength),
        "sharp": labels(sharp, strength),
        "too sure": labels(mean, 100.0),
        "truth": labels(truth, 1000.0),
    }
    return tables, compare(tables, votes, Utterances.of(people), baseline="same"), fitted


def test_held_out_votes_that_are_shared_among_labels_do_not_bias_the_ambiguity() -> None:
    random = np.random.default_rng(4)
    truth = random.dirichlet(np.full(4, 0.8), 900)
    rows = [
        (f"u{number:04}", draw, label, float(part))
        for number, row in enumerate(truth)
        for draw, vote in enumerate(random.dirichlet(np.maximum(2.0 * row, 1e-2), 4))
        for label, part in zip(LABELS, np.maximum(vote, 1e-6) / np.maximum(vote, 1e-6).sum(), strict=True)
    ]
    frame = pl.DataFrame(rows, schema=["utterance_id", "draw", "label", "weight"], orient="row").with_columns(
        annotator=pl.lit("crowd"), source=pl.lit("human"), held_out=pl.lit(True)
    )
    shares = {f"p_{label}": truth[:, place] for place, label in enumerate(LABELS)}
    table = Labels.of(pl.DataFrame({"utterance_id": [f"u{n:04}" for n in range(900)], **shares}), taxonomy=LABELS)
    comparison = compare({"truth": table}, Votes.of(frame, taxonomy=LABELS), baseline="truth")
    assert (comparison.test.squares < comparison.test.counts.sum(1) - 0.1).mean() > 0.9
    recovered = recovered_of(*rows_of(table, comparison.test.ids), comparison).ambiguity
    assert recovered is not None
    assert recovered.bias.estimate == pytest.approx(0.0, abs=0.02)


def test_the_likelihood_of_counts_tells_the_right_strength_from_too_much_where_the_log_loss_cannot() -> None:
    tables, comparison, _ = predictions()
    recovered = {name: recovered_of(*rows_of(tables[name], comparison.test.ids), comparison) for name in tables}
    assert comparison.of("mean").nll.estimate == pytest.approx(comparison.of("too sure").nll.estimate)
    right, wrong = recovered["mean"].strength, recovered["too sure"].strength
    assert right is not None
    assert wrong is not None
    assert right.estimate + 0.02 < wrong.estimate
    assert recovered["same"].strength is None
    metrics = plain({"recovered": {"same": recovered["same"].ambiguity}})
    assert metrics["recovered"]["same"]["utterances"] == N
    reasons = reasons_in(metrics)
    for name in ("correlation", "rank_correlation", "slope"):
        assert reasons[f"recovered/same/{name}/value"].endswith("disagreement is the same for all utterances")


@pytest.mark.parametrize("held_out", [4, 8])
def test_the_ceilings_are_what_the_truth_itself_reaches(held_out: int) -> None:
    tables, comparison, _ = predictions(1, held_out)
    ambiguity = recovered_of(*rows_of(tables["truth"], comparison.test.ids), comparison).ambiguity
    assert ambiguity is not None
    assert ambiguity.correlation.estimate == pytest.approx(ambiguity.ceiling, abs=0.04)
    assert ambiguity.rank_correlation.estimate == pytest.approx(ambiguity.rank_ceiling, abs=0.05)
    assert ambiguity.slope.estimate == pytest.approx(1.0, abs=0.08)
    assert ambiguity.bias.estimate == pytest.approx(0.0, abs=0.01)


def test_thirds_cut_by_votes_that_are_scored_favour_confidence_and_those_cut_by_others_do_not() -> None:
    tables, comparison, fitted = predictions(2)
    shares = {name: rows_of(labels, comparison.test.ids)[0] for name, labels in tables.items()}
    halved = halved_of(shares, comparison, fitted).scores
    assert set(halved) == {OTHERS, FIT}
    outcome = {
        score.method: score.nll.estimate for score in comparison.within["ambiguity of the held-out votes"]["low"]
    }
    assert outcome["sharp"] < outcome["mean"]
    clear = halved[OTHERS]["clear"]
    assert clear["sharp"][0].estimate > clear["mean"][0].estimate
    # the truth is best in every third, whatever cuts
    for within in halved.values():
        for methods in within.values():
            assert min(methods, key=lambda name: methods[name][0].estimate) == "truth"
    assert {name: gain for name, (_, gain) in clear.items() if gain is None} == {"same": None}


def test_an_utterance_that_both_halves_put_into_a_third_counts_once() -> None:
    counts = [[4, 0, 0, 0]] * 60 + [[1, 1, 1, 1]] * 14
    rows = [
        (f"u{number:03}", draw, label)
        for number, row in enumerate(counts)
        for draw, label in enumerate([label for label, many in zip(LABELS, row, strict=True) for _ in range(many)])
    ]
    frame = pl.DataFrame(rows, schema=["utterance_id", "draw", "label"], orient="row").with_columns(
        annotator=pl.lit("crowd"), source=pl.lit("human"), held_out=pl.lit(True)
    )
    even = {f"p_{label}": [0.25] * 74 for label in LABELS}
    table = Labels.of(pl.DataFrame({"utterance_id": [f"u{n:03}" for n in range(74)], **even}), taxonomy=LABELS)
    comparison = compare({"even": table}, Votes.of(frame, taxonomy=LABELS), baseline="even")
    halved = halved_of({"even": np.full((74, 4), 0.25)}, comparison)
    assert set(halved.scores[OTHERS]) == {"between"}
    assert halved.left_out[OTHERS]["ambiguous"] == 14


def test_few_held_out_votes_cut_nothing() -> None:
    tables, comparison, _ = predictions(3, held_out=3)
    shares = {name: rows_of(labels, comparison.test.ids)[0] for name, labels in tables.items()}
    assert halved_of(shares, comparison).scores == {}


def test_a_third_that_is_too_small_is_named_with_its_size() -> None:
    tables, comparison, fitted = predictions(2)
    shares = {name: rows_of(labels, comparison.test.ids)[0] for name, labels in tables.items()}
    agree = np.array([[3.0, 0, 0, 0]] * (N - 7) + [[1.0, 1, 1, 0]] * 7)
    halved = halved_of(shares, comparison, agree)
    assert halved.left_out[OTHERS] == {}
    assert sum(halved.left_out[FIT].values()) == 7
    section = halved_section(halved, comparison)
    assert section is not None
    assert "Left out, with fewer than 20 utterances: " in section.lead
    assert f"formed by {FIT} (7 utterances)" in section.lead
    full = halved_section(halved_of(shares, comparison, fitted), comparison)
    assert full is not None
    assert "Left out" not in full.lead

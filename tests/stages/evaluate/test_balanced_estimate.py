"""evaluate shows scores for equal shares of all labels, by fused posterior means of other votes, or says why not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import InputError
from alm_proxies.measures.balanced_population import BalancedPopulation
from alm_proxies.pipeline.schema import metrics_schema
from alm_proxies.stages.evaluate.balanced import _without_weights
from alm_proxies.stages.evaluate.measured import SHARES
from alm_proxies.stages.evaluate.stage import Evaluation, evaluate
from alm_proxies.stages.fuse.settings import FuseSettings
from alm_proxies.stages.fuse.stage import fuse
from alm_proxies.tables import Labels, MadeBy, Utterances, Votes

LABELS = ("angry", "happy", "neutral")


@pytest.fixture(scope="module")
def tables() -> tuple[Labels, Votes, Utterances]:
    """480 utterances of 24 speakers, mostly neutral; the last half is the test, with three of six votes held out."""
    rng = np.random.default_rng(2)
    kinds = rng.choice(3, 480, p=[0.2, 0.15, 0.65])
    truth = rng.gamma(3.0 * np.eye(3)[kinds] + 0.4)
    truth /= truth.sum(1, keepdims=True)
    ids = [f"made/u{number:03d}" for number in range(480)]
    speakers = np.arange(480) // 20
    rows = []
    for place, name in enumerate(ids):
        test = bool(speakers[place] >= 12)
        for draw, label in enumerate(rng.choice(LABELS, 6, p=truth[place])):
            rows.append(
                {"utterance_id": name, "annotator": f"made/r{draw}", "label": label, "held_out": test and draw >= 3}
            )
    about = pl.DataFrame(
        {
            "utterance_id": ids, "corpus": "made", "speaker": [f"made/s{speaker}" for speaker in speakers],
            "split": np.where(speakers < 12, "train", "test"),
        }
    )  # fmt: skip
    shares = 0.8 * truth + 0.2 * np.array([0.1, 0.1, 0.8])
    frame = pl.DataFrame({"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}})
    votes = Votes.of(pl.DataFrame(rows), taxonomy=LABELS)
    return Labels.of(frame, taxonomy=LABELS), votes, Utterances.of(about)


@pytest.fixture(scope="module")
def fused(tables: tuple[Labels, Votes, Utterances]) -> Labels:
    return fuse(tables[1], FuseSettings(method="gated", classes=4)).labels


@pytest.fixture(scope="module")
def evaluation(tables: tuple[Labels, Votes, Utterances], fused: Labels) -> Evaluation:
    model, votes, utterances = tables
    return evaluate({"model": model}, votes, utterances, fused=fused)


def figures(evaluation: Evaluation) -> dict[str, Any]:
    return dict(evaluation.metrics["balanced_population_estimate"])


def reason(evaluation: Evaluation) -> str:
    assert evaluation.metrics["balanced_population_estimate"] is None
    return str(evaluation.metrics["reasons"]["balanced_population_estimate"])


def test_the_estimate_stands_beside_the_plain_one_with_its_effective_size(evaluation: Evaluation) -> None:
    estimate = figures(evaluation)
    assert "balanced_population_estimate" not in evaluation.metrics["reasons"]
    assert (estimate["utterances"], estimate["speakers"]) == (240, 12)
    assert 50 < estimate["effective_size"] < 240
    assert estimate["shares_before"]["neutral"] > 0.5
    plain, balanced = evaluation.metrics["methods"], estimate["methods"]
    # To say the same of every utterance is worse where labels are equally common than where one is most of all.
    assert balanced[SHARES]["nll_per_vote"]["value"] > plain[SHARES]["nll_per_vote"]["value"] + 0.1
    assert balanced["model"]["less_baseline"]["high"] < 0
    low, value, high = (balanced["model"]["nll_per_vote"][key] for key in ("low", "value", "high"))
    assert low < value < high
    jsonschema.Draft202012Validator(metrics_schema()).validate(json.loads(json.dumps(evaluation.metrics)))
    page = evaluation.page.html()
    assert "Balanced-population estimate" in page
    assert f"{estimate['effective_size']:,.0f}" in page
    assert f"the largest weight is {estimate['largest_weight']:,.1f} times the mean" in page
    assert (estimate["resamples"], estimate["resamples_without_weights"]) == (12, 0)


def test_labels_that_have_seen_scored_votes_are_refused(tables: tuple[Labels, Votes, Utterances]) -> None:
    model, votes, utterances = tables
    everything = Votes.of(votes.frame.with_columns(held_out=pl.lit(value=False)), taxonomy=LABELS)
    seen = fuse(everything, FuseSettings(method="gated", classes=4)).labels
    with pytest.raises(InputError, match="Held-out votes were used in the fit"):
        evaluate({"model": model}, votes, utterances, fused=seen)


def test_raw_shares_give_no_figure_and_the_reason(tables: tuple[Labels, Votes, Utterances]) -> None:
    model, votes, utterances = tables
    pooled = fuse(votes, FuseSettings(method="pool")).labels
    assert "raw shares of votes" in reason(evaluate({"model": model}, votes, utterances, fused=pooled))
    other = Labels(pooled.frame, pooled.about.with_(made_by=MadeBy(stage="read", settings={})))
    assert "not made by fuse" in reason(evaluate({"model": model}, votes, utterances, fused=other))
    without = evaluate({"model": model}, votes, utterances)
    assert "no fused labels" in reason(without)
    assert "Balanced-population estimate" not in without.page.html()


def test_training_speakers_and_generated_items_are_never_in_it(
    tables: tuple[Labels, Votes, Utterances], fused: Labels
) -> None:
    model, votes, utterances = tables
    recipe = '{"effects":[],"parents":[["made/u000",1.0]],"seed":0}'
    frame = utterances.frame.with_columns(
        speaker=pl.when(pl.col("utterance_id").is_in([f"made/u{n:03d}" for n in range(240, 245)]))
        .then(pl.lit("made/s0"))
        .otherwise("speaker"),
        recipe=pl.when(pl.col("utterance_id") == "made/u479").then(pl.lit(recipe)).otherwise("recipe"),
    )
    evaluation = evaluate({"model": model}, votes, Utterances.of(frame), fused=fused)
    assert figures(evaluation)["utterances"] == 234
    counts = evaluation.findings.counts()
    assert (counts["training_speaker"], counts["generated_in_test"]) == (5, 1)


def test_a_small_test_set_has_no_figure(tables: tuple[Labels, Votes, Utterances], fused: Labels) -> None:
    model, votes, utterances = tables
    few = Labels(model.frame.filter(pl.col("utterance_id") < "made/u300"), model.about)
    assert "60 utterances are too few" in reason(evaluate({"model": few}, votes, utterances, fused=fused))


def test_utterances_of_unknown_speakers_do_not_make_the_speakers_that_are_needed(
    tables: tuple[Labels, Votes, Utterances], fused: Labels
) -> None:
    model, votes, utterances = tables
    number = pl.int_range(pl.len())

    def where_known(known: pl.Expr) -> Evaluation:
        people = Utterances.of(utterances.frame.with_columns(speaker=pl.when(known).then("speaker")))
        return evaluate({"model": model}, votes, people, fused=fused)

    few = where_known(number < 400)
    assert reason(few) == (
        "8 speakers (80 of the utterances are of unknown speakers) are too few; 10 known ones are needed"
    )
    enough = where_known(number < 470)
    assert figures(enough)["speakers"] == 12
    assert "240 utterances of 12 speakers (10 of the utterances are of unknown speakers), weighted" in (
        enough.page.html()
    )


def test_fused_labels_that_cannot_reach_equal_shares_are_said_to_be_of_few_votes(
    tables: tuple[Labels, Votes, Utterances], fused: Labels
) -> None:
    model, votes, utterances = tables
    shares = fused.frame.select(f"p_{label}" for label in LABELS).to_numpy()
    near = 0.1 * shares + 0.9 * shares.mean(0)
    frame = fused.frame.with_columns(pl.Series(f"p_{label}", near[:, k]) for k, label in enumerate(LABELS))
    alike = Labels.of(frame.select("utterance_id", *(f"p_{label}" for label in LABELS)), about=fused.about)
    why = reason(evaluate({"model": model}, votes, utterances, fused=alike))
    assert "they differ too little: no utterance has an equal share" in why
    assert "fused labels of few votes are near the class shares" in why
    assert "neutral" not in why


def test_resamples_without_weights_are_said_beside_the_estimate() -> None:
    found = BalancedPopulation({}, np.ones(3), 3.0, np.ones(3) / 3, 1000, 12)
    assert "Of 1,000 resamples 12 have no weights" in _without_weights(found)
    assert _without_weights(found).endswith("the intervals leave them out.")
    assert _without_weights(replace(found, failed=51)).endswith("the intervals are not given.")
    assert _without_weights(replace(found, failed=0)) == ""

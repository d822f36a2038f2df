"""Macro-F1, UAR and recall over votes: which labels and utterances they are over, and ties."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from made_predictions import LABELS, Tables, evaluated, labels_of

from alm_proxies.report.page import Text
from alm_proxies.stages.evaluate.measured import SHARES
from alm_proxies.stages.evaluate.stage import Evaluation, evaluate
from alm_proxies.tables import Votes


def hard_labels(evaluation: Evaluation) -> str:
    (section,) = (section for section in evaluation.page.sections if section.title == "As hard labels")
    return " ".join(block.words for block in section.blocks if isinstance(block, Text))


def test_the_page_says_which_labels_and_utterances_each_measure_of_hard_labels_is_over(tables: Tables) -> None:
    _, _, votes, _ = tables
    evaluation = evaluated(tables)
    most = votes.frame.filter("held_out").group_by("utterance_id", "label").len()
    ties = most.filter(pl.col("len") == pl.col("len").max().over("utterance_id")).group_by("utterance_id").len()
    count = ties.filter(pl.col("len") > 1).height
    words = hard_labels(evaluation)
    assert "a mean over all 4 labels, UAR over the 4 that are the most voted one of an utterance" in words
    assert f"{count} utterances have no single label with most votes (of 300)" in words
    assert "No utterance has most votes" not in words


def test_ties_are_counted_in_measures_with_paired_differences(tables: Tables) -> None:
    truth, ids, votes, _ = tables
    evaluation = evaluated(tables)
    noisy = 0.6 * truth + 0.4 * np.random.default_rng(5).dirichlet(np.ones(4), 600)
    by_label = votes.frame.filter("held_out").group_by("utterance_id", "label").len()
    most = by_label.filter(pl.col("len") == pl.col("len").max().over("utterance_id"))
    recall = {}
    for name, shares in (("good", truth), ("worse", noisy)):
        right, of_label = dict.fromkeys(LABELS, 0.0), dict.fromkeys(LABELS, 0.0)
        for utterance, label, size in (
            most.with_columns(pl.len().over("utterance_id").alias("size"))
            .select("utterance_id", "label", "size")
            .iter_rows()
        ):
            of_label[label] += 1 / size
            right[label] += (LABELS[int(shares[ids.index(utterance)].argmax())] == label) / size
        recall[name] = np.mean([right[label] / of_label[label] for label in LABELS])
    methods, pair = evaluation.metrics["methods"], evaluation.metrics["pairs_with_ties"]["good less worse"]
    assert methods["good"]["uar_with_ties"]["value"] == pytest.approx(recall["good"])
    assert pair["uar_with_ties"]["value"] == pytest.approx(recall["good"] - recall["worse"])
    less = methods["good"]["uar_with_ties_less_baseline"]
    assert less["value"] == pytest.approx(recall["good"] - methods[SHARES]["uar_with_ties"]["value"])
    assert less["low"] > 0
    assert less["p_value"] < 0.001
    assert methods[SHARES]["macro_f1_with_ties_less_baseline"] is None
    reason = evaluation.metrics["reasons"][f"methods/{SHARES}/macro_f1_with_ties_less_baseline"]
    assert reason == "it is the baseline"


def test_utterances_whose_held_out_votes_are_for_no_label_are_counted(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    silent = pl.col("utterance_id").is_in([f"made/u{number}" for number in range(590, 600)])
    frame = votes.frame.with_columns(
        label=pl.when(~silent).then("label"),
        status=pl.when(silent).then(pl.lit("out_of_vocabulary")).otherwise("status"),
    )
    evaluation = evaluate({"good": labels_of(truth, ids)}, Votes(frame, votes.about), utterances)
    assert evaluation.metrics["utterances"] == 290
    assert evaluation.metrics["utterances_without_label"] == 10
    assert (
        "10 more utterances have held-out votes, but none for a label: no measure of labels counts them"
        in hard_labels(evaluation)
    )
    assert evaluated(tables).metrics["utterances_without_label"] == 0
    assert "none for a label" not in hard_labels(evaluated(tables))


def test_a_label_that_is_most_voted_nowhere_is_named(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    sad = pl.col("held_out") & (pl.col("label") == "sad") & (pl.col("annotator") != "made/r7")
    fewer = Votes(votes.frame.with_columns(label=pl.when(sad).then(pl.lit("angry")).otherwise("label")), votes.about)
    evaluation = evaluate({"good": labels_of(truth, ids)}, fewer, utterances)
    words = hard_labels(evaluation)
    assert "over all 4 labels, UAR over the 3 that" in words
    assert "recall over votes over the 4 that have votes" in words
    assert "No utterance has most votes for sad: recall is not defined there" in words
    scores = evaluation.metrics["methods"]["good"]
    assert scores["macro_f1"]["value"] < 0.76 * scores["uar"]["value"] + 0.05  # a quarter of the labels counts 0


def test_the_utterances_of_hard_labels_are_counted(tables: Tables) -> None:
    _, _, votes, _ = tables
    metrics = evaluated(tables).metrics
    held = votes.frame.filter("held_out").group_by("utterance_id", "label").len()
    most = held.filter(pl.col("len") == pl.col("len").max().over("utterance_id"))
    assert metrics["utterances_without_tie"] == (most["utterance_id"].value_counts()["count"] == 1).sum() < 300

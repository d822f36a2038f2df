"""Predictions on one common test of held-out human votes; nothing a model was trained on is a test of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_predictions import LABELS, Tables, evaluated, labels_of
from wording import Wording

from alm_proxies.cli.app import run
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.stages.evaluate.measured import SHARES
from alm_proxies.stages.evaluate.settings import EvaluateSettings
from alm_proxies.stages.evaluate.stage import Evaluation, evaluate
from alm_proxies.tables import Labels, Utterances, Votes


def test_the_better_model_is_found_with_a_paired_interval_over_speakers(tables: Tables) -> None:
    evaluation = evaluated(tables)
    pair = evaluation.metrics["pairs"]["good less worse"]
    assert pair["high"] < 0
    assert pair["p_value"] < 0.05
    methods = evaluation.metrics["methods"]
    assert (
        methods["good"]["nll_per_vote"]["value"]
        < methods["worse"]["nll_per_vote"]["value"]
        < methods[SHARES]["nll_per_vote"]["value"]
    )
    assert evaluation.metrics["utterances"] == 300
    assert evaluation.metrics["speakers"] == 15
    assert methods["good"]["dirichlet_multinomial_nll"]["value"] > 0
    assert methods[SHARES]["dirichlet_multinomial_nll"] is None


def test_utterances_of_unknown_speakers_are_not_counted_as_speakers(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    unknown = pl.int_range(pl.len()) >= 570
    people = Utterances.of(utterances.frame.with_columns(speaker=pl.when(~unknown).then("speaker")))
    evaluation = evaluate({"good": labels_of(truth, ids)}, votes, people)
    counted = "held-out votes of 14 speakers (30 of the utterances are of unknown speakers)."
    assert counted in evaluation.page.summary
    assert evaluation.metrics["speakers"] == 14
    assert evaluation.metrics["utterances_of_unknown_speakers"] == 30


def test_class_shares_are_those_of_votes_that_are_not_held_out(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    frame = votes.frame.with_columns(label=pl.when("held_out").then(pl.lit("sad")).otherwise(pl.col("label")))
    turned = Votes.of(frame, taxonomy=LABELS)
    evaluation = evaluate({"good": labels_of(truth, ids)}, turned, utterances)
    fitted = votes.frame.filter(~pl.col("held_out"))
    share = ((fitted["label"] == "sad").sum() + 0.5) / (fitted.height + 2)
    assert evaluation.metrics["methods"][SHARES]["nll_per_vote"]["value"] == pytest.approx(-np.log(share), abs=1e-6)


def test_thirds_are_cut_by_votes_that_are_not_scored(tables: Tables) -> None:
    evaluation = evaluated(tables)
    thirds = evaluation.metrics["within_thirds_by_what_cuts"]["held-out votes that are not scored"]
    assert list(thirds) == ["clear", "between", "ambiguous"]
    losses = [thirds[third]["good"]["nll_per_vote"]["value"] for third in thirds]
    assert losses[0] < losses[1] < losses[2]
    overall = evaluation.metrics["methods"]["good"]["nll_per_vote"]["value"]
    assert losses[0] < overall < losses[2]


def test_what_a_model_was_trained_on_is_left_out_and_counted(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    seen = labels_of(truth, ids, trained_on={"made": [f"made/s{number}" for number in range(20)]})
    evaluation = evaluate({"seen": seen}, votes, utterances)
    assert evaluation.metrics["utterances"] == 200
    assert evaluation.findings.counts() == {"trained_on": 400}
    other = labels_of(truth, ids, trained_on={"made": [f"made/s{number}" for number in range(20, 30)]})
    with pytest.raises(InputError, match="every utterance with held-out votes"):
        evaluate({"seen": seen, "other": other}, votes, utterances)
    everything = labels_of(truth, ids, trained_on={"made": [f"made/s{number}" for number in range(30)]})
    with pytest.raises(InputError, match="trained on"):
        evaluate({"seen": everything}, votes, utterances)


def test_models_are_scored_on_the_utterances_that_all_of_them_predict(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    both = {"all": labels_of(truth, ids), "some": labels_of(truth[:500], ids[:500])}
    evaluation = evaluate(both, votes, utterances)
    assert evaluation.metrics["utterances"] == 200
    assert evaluation.findings.counts()["no_prediction"] == 100


def test_a_baseline_can_be_named_and_an_unknown_one_is_refused(tables: Tables) -> None:
    evaluation = evaluated(tables, baseline="worse")
    assert evaluation.metrics["methods"]["good"]["less_baseline"]["high"] < 0
    assert evaluation.metrics["methods"]["worse"]["less_baseline"] is None
    with pytest.raises(SettingsError, match="There are: good, worse, class shares"):
        evaluated(tables, baseline="best")
    with pytest.raises(SettingsError, match="Did you mean 'good'"):
        evaluated(tables, baseline="goood")


@pytest.mark.parametrize("asked", ["good.parquet", "./good.parquet", "/runs/good.parquet", "good"])
def test_a_baseline_named_by_its_file_or_folder_is_told_its_name(tables: Tables, asked: str) -> None:
    truth, ids, votes, utterances = tables
    name = "good/labels" if asked == "good" else "good"
    predictions = {name: labels_of(truth, ids), "other": labels_of(truth, ids)}
    with pytest.raises(SettingsError, match=rf"Write --baseline {name}\.$"):
        evaluate(predictions, votes, utterances, EvaluateSettings(baseline=asked))
    evaluate(predictions, votes, utterances, EvaluateSettings(baseline=name))


def test_ids_that_match_no_vote_are_said_with_examples_of_both(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    kept = {"trained_on": {"made": ["made/s0"]}}
    other = labels_of(truth, [f"{name}.wav" for name in ids], **kept)
    with pytest.raises(InputError) as refused:
        evaluate({"model": other}, votes, utterances)
    assert "'made/u000.wav', 'made/u001.wav'" in str(refused.value)
    assert "'made/u000', 'made/u001'" in str(refused.value)
    assert "training" not in str(refused.value)


def test_metrics_are_json_with_numbers_as_numbers(tables: Tables) -> None:
    text = json.dumps(evaluated(tables).metrics, allow_nan=False)
    assert "Infinity" not in text
    assert '"nan"' not in text


def rated(tables: Tables) -> Evaluation:
    """Votes and predictions with valence, and a model's predictions of the recordings as they are and with noise."""
    truth, ids, votes, utterances = tables
    scale = np.array([0.1, 0.9, 0.5, 0.2])
    valence = dict(zip(ids, (truth / truth.sum(1, keepdims=True)) @ scale, strict=True))
    heard = votes.frame.with_columns(valence=pl.col("utterance_id").replace_strict(valence, return_dtype=pl.Float64))
    predictions = {}
    for name, share, condition in (("clean", 0.9, None), ("noisy", 0.3, "noise"), ("echo", 0.6, "room")):
        labels = labels_of(share * truth + (1 - share) / 4, ids, model="m", recipe="features", condition=condition)
        rating = share * np.array(list(valence.values())) + (1 - share) * 0.4
        predictions[name] = Labels.of(labels.frame.with_columns(valence=pl.Series(rating)), about=labels.about)
    return evaluate(predictions, Votes.of(heard, taxonomy=LABELS), utterances)


def test_predictions_on_degraded_audio_are_compared_with_the_same_model_as_recorded(tables: Tables) -> None:
    evaluation = rated(tables)
    losses = evaluation.metrics["conditions_less_as_recorded"]
    assert set(losses) == {"clean"}
    assert set(losses["clean"]) == {"noise", "room"}
    assert losses["clean"]["noise"]["low"] > losses["clean"]["room"]["value"] > 0
    other = labels_of(tables[0], tables[1], model="another", recipe="features", condition="noise")
    alone = evaluate({"other": other, "plain": labels_of(tables[0], tables[1])}, *tables[2:])
    assert alone.metrics["conditions_less_as_recorded"] == {}


def test_ratings_are_scored_by_concordance(tables: Tables) -> None:
    page = {section.title: section for section in rated(tables).page.sections}
    (table,) = page["Ratings"].blocks
    concordances = {str(row[0]): row[2] for row in table.rows}  # type: ignore[union-attr]  # a table
    assert concordances["clean"].estimate > concordances["echo"].estimate > concordances["noisy"].estimate > 0  # type: ignore[union-attr]
    assert "Ratings" not in [section.title for section in evaluated(tables).page.sections]


def test_ratings_of_votes_without_a_label_are_scored(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    heard = np.random.default_rng(4).random(600)
    of_id = dict(zip(ids, heard.tolist(), strict=True))
    silent = pl.col("held_out") & pl.col("utterance_id").is_in(ids[500:])
    frame = votes.frame.with_columns(
        label=pl.when(~silent).then("label"), valence=pl.col("utterance_id").replace_strict(of_id)
    )
    predictions = {}
    for name, error in (("near", 0.1), ("far", 0.3)):
        labels = labels_of(truth, ids, model=name)
        predictions[name] = Labels.of(
            labels.frame.with_columns(valence=pl.Series(heard * (1 - error))), about=labels.about
        )
    evaluation = evaluate(predictions, Votes.of(frame, taxonomy=LABELS), utterances)
    held = frame.filter("held_out")["utterance_id"].unique().to_list()
    assert evaluation.metrics["utterances"] == len(held) - 100
    gaps = np.array([0.1 * of_id[utterance] for utterance in held])
    assert evaluation.metrics["methods"]["near"]["rmse_valence"]["value"] == pytest.approx(np.sqrt(np.mean(gaps**2)))
    fewer = Labels(predictions["far"].frame.filter(pl.col("utterance_id") != ids[599]), predictions["far"].about)
    one_less = evaluate({**predictions, "far": fewer}, Votes.of(frame, taxonomy=LABELS), utterances)
    gaps = np.array([0.1 * of_id[utterance] for utterance in held if utterance != ids[599]])
    assert one_less.metrics["methods"]["near"]["rmse_valence"]["value"] == pytest.approx(np.sqrt(np.mean(gaps**2)))
    assert evaluation.findings.counts()["no_label"] == frame.filter(silent).height


def test_every_sentence_of_the_page_is_pinned(tables: Tables, wording: Wording) -> None:
    wording.page(rated(tables).page.html())


@pytest.mark.browser
def test_the_page_is_drawn_and_sorted_in_a_browser(browser: Any, tables: Tables, tmp_path: Path) -> None:
    rated(tables).page.write(tmp_path / "report.html")
    for width, kind in ((1200, "wide"), (390, "narrow")):
        browser.screen(width)
        browser.open(tmp_path / "report.html")
        seen = browser.marks(kind)
        names = [name for name, _ in seen]
        assert {"halved", "reliability", "risk-coverage", "confusion-0", "confusion-2"} <= set(names)
        assert all(marks > 0 for _, marks in seen), seen
        assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    browser.ask("document.querySelector('#degraded-audio thead th:nth-child(3) button').click()")
    losses = browser.ask(
        "[...document.querySelector('#degraded-audio tbody').rows].map(row => Number(row.cells[2].dataset.key))"
    )
    assert len(losses) == 3
    assert losses == sorted(losses)
    assert browser.complaints() == []


def test_the_command_writes_the_page_and_its_figures(tables: Tables, tmp_path: Path) -> None:
    truth, ids, votes, utterances = tables
    votes.write(tmp_path / "votes.parquet")
    utterances.write(tmp_path / "utterances.parquet")
    for name, share in (("one", 0.9), ("two", 0.4)):
        labels_of(share * truth + (1 - share) / 4, ids).write(tmp_path / f"{name}.parquet")
    command = [
        "evaluate", str(tmp_path / "one.parquet"), str(tmp_path / "two.parquet"), "--votes",
        str(tmp_path / "votes.parquet"), "--utterances", str(tmp_path / "utterances.parquet"), "-o",
        str(tmp_path / "report.html"), "--quiet",
    ]  # fmt: skip
    assert run(command) == 0
    metrics = json.loads((tmp_path / "report.metrics.json").read_text())
    assert set(metrics["methods"]) == {SHARES, "one", "two"}
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure") >= 5


def test_a_prediction_without_share_for_a_label_with_votes_has_an_infinite_loss(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    sure = labels_of(np.eye(4)[truth.argmax(1)], ids)
    evaluation = evaluate({"sure": sure, "good": labels_of(truth, ids)}, votes, utterances)
    assert "sure infinite" in evaluation.line
    assert evaluation.metrics["methods"]["sure"]["nll_per_vote"]["value"] is None
    assert "too few speakers" not in evaluation.page.headline
    assert "gives no probability to a label with votes" in evaluation.page.headline
    reasons = evaluation.metrics["reasons"]
    assert all(
        reasons[f"methods/sure/{name}/value"].startswith("infinite")
        for name in ("nll_per_vote", "kld_nats", "less_baseline")
    )


def test_predictions_without_rows_are_refused_as_such(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    whole = labels_of(truth, ids)
    empty = Labels(whole.frame.head(0), whole.about)
    with pytest.raises(InputError, match="empty: has no rows"):
        evaluate({"empty": empty}, votes, utterances)


def test_the_truth_of_another_corpus_is_refused(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    other = labels_of(truth, [f"other/{name}" for name in ids])
    with pytest.raises(InputError, match="truth has none of the utterances"):
        evaluate({"good": labels_of(truth, ids)}, votes, utterances, truth=other)


def test_two_speakers_are_too_few_for_intervals_and_for_a_verdict(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    few = utterances.frame.filter(pl.col("speaker").is_in(["made/s0", "made/s20", "made/s21"]))
    labels = labels_of(0.9 * truth + 0.025, ids)
    chosen = Votes(votes.frame.filter(pl.col("utterance_id").is_in(few["utterance_id"].implode())), votes.about)
    evaluation = evaluate({"good": labels}, chosen, Utterances.of(few))
    assert evaluation.metrics["methods"]["good"]["jsd_base2"]["low"] is None
    headline = evaluation.page.headline
    assert headline == (
        "good and class shares: too few speakers to judge which predicts held-out votes better; it takes 6 for a "
        "p-value below 0.05"
    )


@pytest.mark.parametrize(("speakers", "judged"), [(5, False), (6, True)])
def test_a_verdict_is_given_only_where_speakers_suffice_for_a_small_p_value(
    tables: Tables, speakers: int, judged: bool
) -> None:
    truth, ids, votes, utterances = tables
    of_test = [f"made/s{number}" for number in range(15, 15 + speakers)]
    few = utterances.frame.filter(pl.col("speaker").is_in([*of_test, "made/s0"]))
    chosen = Votes(votes.frame.filter(pl.col("utterance_id").is_in(few["utterance_id"].implode())), votes.about)
    good, bad = labels_of(0.9 * truth + 0.025, ids), labels_of(np.roll(truth, 1, axis=1) + 0.1, ids)
    alone = evaluate({"good": good}, chosen, Utterances.of(few))
    p_value = alone.metrics["methods"]["good"]["less_baseline"]["p_value"]
    assert p_value == pytest.approx(2.0 ** (1 - speakers))
    assert ("predicts held-out votes better than class shares" in alone.page.headline) == judged
    assert ("too few speakers to judge" in alone.page.headline) == (not judged)
    assert alone.page.summary.endswith(f"p = {p_value:.3f}.")
    both = evaluate({"good": good, "bad": bad}, chosen, Utterances.of(few))
    assert (both.page.headline == "good predicts held-out votes best") == judged
    pairs = next(section for section in both.page.sections if section.title == "Pairwise comparison")
    assert [row[-1] for row in pairs.blocks[0].rows] == ["good" if judged else "under 6 speakers"]  # type: ignore[union-attr]  # a table


def test_the_distance_to_the_truth_is_scored_for_every_prediction_paired_and_within_strata(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    near, far = 0.9 * truth + 0.025, 0.5 * truth + 0.125
    predictions = {"near": labels_of(near, ids), "far": labels_of(far, ids)}
    evaluation = evaluate(predictions, votes, utterances, truth=labels_of(truth, ids))
    to_truth = evaluation.metrics["to_truth"]
    assert to_truth["utterances"] == 300
    p = (truth / truth.sum(1, keepdims=True))[300:]
    for name, shares in (("near", near), ("far", far)):
        q = (shares / shares.sum(1, keepdims=True))[300:]
        entry = to_truth["methods"][name]
        assert entry["kld_nats_to_truth"]["value"] == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-6)
        assert entry["jsd_base2_to_truth_less_baseline"]["high"] < 0
        assert entry["kld_nats_to_truth_less_baseline"]["p_value"] < 0.05
        assert evaluation.metrics["methods"][name]["kld_nats_to_truth"]["value"] == entry["kld_nats_to_truth"]["value"]
    assert (
        to_truth["methods"]["near"]["jsd_base2_to_truth"]["high"]
        < to_truth["methods"]["far"]["jsd_base2_to_truth"]["low"]
    )
    assert set(to_truth["within"]["gender"]) == {"female", "male"}
    assert to_truth["methods"][SHARES]["kld_nats_to_truth_less_baseline"] is None
    assert evaluation.metrics["reasons"]["to_truth/methods/class shares/kld_nats_to_truth_less_baseline"] == (
        "it is the baseline"
    )
    (section,) = [part for part in evaluation.page.sections if part.title == "Distance to the simulated truth"]
    assert "The truth is simulated" in section.lead
    assert [row[0] for row in section.blocks[0].rows] == [SHARES, "near", "far"]  # type: ignore[union-attr]  # a table
    without = evaluated(tables)
    assert without.metrics["to_truth"] is None
    assert "Distance to the simulated truth" not in [part.title for part in without.page.sections]


def test_the_distance_to_a_truth_of_some_utterances_is_over_these(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    some = labels_of(truth[:450], ids[:450])
    to_truth = evaluate({"good": labels_of(truth, ids)}, votes, utterances, truth=some).metrics["to_truth"]
    assert to_truth["utterances"] == 150
    assert to_truth["methods"]["good"]["jsd_base2_to_truth"]["value"] == pytest.approx(0, abs=1e-9)


def test_what_models_were_trained_on_is_counted_in_utterances_once_and_left_out(tables: Tables) -> None:
    truth, ids, votes, utterances = tables
    seen = {name: labels_of(truth, ids, trained_on={"made": ["made/s0", "made/s20"]}) for name in ("a", "b", "c")}
    evaluation = evaluate(seen, votes, utterances)
    assert evaluation.findings.counts() == {"trained_on": 40}
    assert "(3 of the models)" in evaluation.findings.frame["message"][0]
    assert evaluation.counts == {"utterances": 280, "left_out": 20}
    assert evaluation.metrics["left_out"] == 20
    more = {**seen, "d": labels_of(truth, ids, trained_on={"made": ["made/s0", "made/s21"]})}
    assert evaluate(more, votes, utterances).counts == {"utterances": 260, "left_out": 40}
    assert evaluate(more, votes, utterances).findings.counts() == {"trained_on": 60}
    other = {"e": labels_of(truth, ids, trained_on={"made": ["made/s1"], "else": ["else/s0"]})}
    found = evaluate({**seen, **other}, votes, utterances).findings.frame
    assert sorted(found["count"]) == [20, 40], "each of the models with one text, not of all"

"""Evaluation sets: importance weights and a subset with equally common labels, of recorded test utterances alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from alm_proxies.measures.balanced_population import BalancedPopulation, balanced_population
from alm_proxies.stages.balance.settings import BalanceSettings, EvaluationSets
from alm_proxies.stages.balance.stage import Balanced, balance
from alm_proxies.tables import Labels, MadeBy, Utterances

LABELS = ("angry", "happy", "neutral", "sad")
SETTINGS = BalanceSettings(evaluation=EvaluationSets(splits=("test",)))
FUSED = MadeBy(stage="fuse", settings={"method": "auto"})


def tables(maker: MadeBy | None = FUSED) -> tuple[Labels, Utterances]:
    """800 utterances of 40 speakers, the last 15 of them in the test; two test rows do not belong there."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.array([0.5, 0.4, 1.6, 0.7]), 800)
    ids = [f"made/u{number:04d}" for number in range(800)]
    frame = pl.DataFrame({"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}})
    labels = Labels.of(frame, taxonomy=LABELS)
    speakers = np.arange(800) // 20
    about = pl.DataFrame(
        {
            "utterance_id": ids,
            "corpus": "made",
            "speaker": [f"made/s{speaker}" for speaker in [*speakers[:-1], 3]],
            "split": np.where(speakers < 25, "train", "test"),
            "recipe": [None] * 798 + ['{"effects":[],"parents":[["made/u0600",1.0]],"seed":0}', None],
        }
    )
    return Labels(labels.frame, labels.about.with_(made_by=maker)), Utterances.of(about)


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Balanced:
    return balance(*tables(), tmp_path_factory.mktemp("out"), SETTINGS)


def test_weights_and_subset_make_labels_equally_common(balanced: Balanced) -> None:
    figures = balanced.metrics["evaluation"]
    assert (figures["utterances"], figures["speakers"]) == (298, 15)
    joined = balanced.labels.frame.join(balanced.utterances.frame, on="utterance_id", maintain_order="left")
    test = joined.filter(pl.col("split") == "test")
    shares = test.select(f"p_{label}" for label in LABELS).to_numpy()
    weights = test["weight"].to_numpy()
    np.testing.assert_allclose(weights @ shares / weights.sum(), 0.25, atol=1e-3)
    assert np.abs(shares.mean(0) - 0.25).max() > 0.1
    inside = (test["balanced_test"] == "yes").fill_null(value=False).to_numpy()
    assert 60 < inside.sum() == figures["subset"] < 298
    assert np.abs(shares[inside].mean(0) - 0.25).max() == pytest.approx(figures["subset_worst_error"], abs=1e-9)
    assert figures["subset_worst_error"] < 0.02
    assert figures["effective_size"] == pytest.approx(weights.sum() ** 2 / np.square(weights).sum())
    assert "Evaluation set" in balanced.page.html()


def test_utterances_of_unknown_speakers_are_no_speaker_of_the_set(tmp_path: Path) -> None:
    labels, utterances = tables()
    number = pl.int_range(pl.len())
    people = Utterances.of(utterances.frame.with_columns(speaker=pl.when(~number.is_in([510, 700])).then("speaker")))
    figures = balance(labels, people, tmp_path, SETTINGS).metrics["evaluation"]
    assert figures["speakers"] == 15


def test_the_weights_are_those_of_the_balanced_population_estimate(balanced: Balanced) -> None:
    joined = balanced.labels.frame.join(balanced.utterances.frame, on="utterance_id", maintain_order="left")
    test = joined.filter((pl.col("split") == "test") & (pl.col("weight") > 0))
    shares = test.select(f"p_{label}" for label in LABELS).to_numpy()
    other = balanced_population(shares, {"one": (np.ones(len(shares)), 1.0)}, test["speaker"].to_numpy(), replicates=2)
    assert isinstance(other, BalancedPopulation)
    np.testing.assert_allclose(test["weight"].to_numpy(), other.weights, rtol=0.02, atol=0.01)


def test_training_speakers_and_generated_items_are_never_in_it(balanced: Balanced) -> None:
    weights = dict(balanced.labels.frame.select("utterance_id", "weight").iter_rows())
    marks = dict(balanced.utterances.frame.select("utterance_id", "balanced_test").iter_rows())
    for name in ("made/u0798", "made/u0799"):
        assert weights[name] == 0
        assert marks[name] is None
    assert balanced.findings.counts()["training_speaker"] == 2
    trained = balanced.utterances.frame.filter(pl.col("split") == "train")
    assert trained["balanced_test"].null_count() == trained.height


def test_an_utterance_of_weight_0_stays_out(tmp_path: Path) -> None:
    labels, utterances = tables()
    name = "made/u0700"
    frame = labels.frame.with_columns(weight=pl.when(pl.col("utterance_id") == name).then(0.0).otherwise("weight"))
    balanced = balance(Labels(frame, labels.about), utterances, tmp_path, SETTINGS)
    assert balanced.metrics["evaluation"]["utterances"] == 297
    assert balanced.labels.frame.filter(pl.col("utterance_id") == name)["weight"].item() == 0
    assert balanced.utterances.frame.filter(pl.col("utterance_id") == name)["balanced_test"].item() is None


@pytest.mark.parametrize(
    ("maker", "reason"),
    [(MadeBy(stage="fuse", settings={"method": "pool"}), "raw shares of votes"), (None, "not made by fuse")],
)
def test_raw_shares_make_no_set(tmp_path: Path, maker: MadeBy | None, reason: str) -> None:
    labels, utterances = tables(maker)
    balanced = balance(labels, utterances, tmp_path / "out", SETTINGS)
    assert reason in balanced.metrics["evaluation"]["reason"]
    assert balanced.findings.counts()["no_evaluation_set"] == 1
    assert "balanced_test" not in balanced.utterances.frame.columns


def test_few_speakers_make_no_set_and_a_split_is_either_balanced_or_tested(tmp_path: Path) -> None:
    labels, utterances = tables()
    few = Labels(labels.frame.filter(pl.col("utterance_id") < "made/u0670"), labels.about)
    balanced = balance(few, utterances, tmp_path / "out", SETTINGS)
    assert "of 10 are needed" in balanced.metrics["evaluation"]["reason"]
    with pytest.raises(ValidationError, match="one or the other"):
        BalanceSettings(evaluation=EvaluationSets(splits=("train",)))

"""Balanced labels: the wanted shares are reached on the training split, all else stays, what is not met is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from wording import Wording

from alm_proxies.ballots import Counting, counting_of
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.stages.balance.settings import BalanceSettings, Cap
from alm_proxies.stages.balance.stage import balance
from alm_proxies.stages.balance.weights import Balance
from alm_proxies.tables import Labels, MadeBy, Utterances
from alm_proxies.trained_on import KEY, MEASURED, trained_on_of, without_trained_on

LABELS = ("angry", "happy", "neutral", "sad")


def tables(count: int = 400, seed: int = 0) -> tuple[Labels, Utterances]:
    rng = np.random.default_rng(seed)
    # Sharp utterances and blends, so that every level of ambiguity occurs.
    shares = rng.dirichlet(np.array([0.5, 0.4, 1.6, 0.7]), count) ** rng.choice([0.4, 1.0, 2.0], count)[:, None]
    shares /= shares.sum(1, keepdims=True)
    ids = [f"made/u{number:04d}" for number in range(count)]
    frame = pl.DataFrame({"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}})
    speakers = rng.integers(0, 20, count)
    about = pl.DataFrame(
        {
            "utterance_id": ids,
            "corpus": "made",
            "speaker": [f"made/s{speaker}" for speaker in speakers],
            "gender": np.where(speakers % 2, "female", "male"),
            "split": np.where(speakers < 14, "train", "test"),
        }
    )
    return Labels.of(frame, taxonomy=LABELS), Utterances.of(about)


def share_of(labels: Labels, chosen: np.ndarray) -> np.ndarray:
    weights = labels.frame["weight"].to_numpy()[chosen]
    return weights @ labels.distributions()[chosen] / weights.sum()


def test_utterances_that_training_leaves_out_keep_their_weights(tmp_path: Path) -> None:
    labels, utterances = tables()
    nobody = (pl.col("speaker") == "made/s3") & (pl.col("split") == "train")
    frame = utterances.frame.with_columns(
        split=pl.when(~nobody).then("split"), speaker=pl.when(~nobody).then("speaker")
    )
    aside = frame["speaker"].is_null().to_numpy()
    balanced = balance(labels, Utterances.of(frame), tmp_path / "out")
    (finding,) = balanced.findings.frame.filter(kind="unknown_speaker").iter_rows(named=True)
    assert finding["count"] == aside.sum() > 0
    weights = balanced.labels.frame["weight"].to_numpy()
    assert (weights[aside] == 1).all()
    chosen = (frame["split"] == "train").fill_null(value=False).to_numpy()
    np.testing.assert_allclose(share_of(balanced.labels, chosen), 0.25, atol=1e-3)
    assert balanced.metrics["utterances"] == chosen.sum()


def test_soft_class_shares_become_uniform_while_ambiguity_and_gender_stay_as_they_are(tmp_path: Path) -> None:
    labels, utterances = tables()
    balanced = balance(labels, utterances, tmp_path / "out")
    chosen = (utterances.frame["split"] == "train").to_numpy()
    np.testing.assert_allclose(share_of(balanced.labels, chosen), 0.25, atol=1e-3)
    assert np.abs(share_of(labels, chosen) - 0.25).max() > 0.05
    weights = balanced.labels.frame["weight"].to_numpy()
    for column in (balanced.labels.frame["ambiguity"], utterances.frame["gender"]):
        for value in column.unique():
            marked = (column == value).to_numpy()[chosen]
            assert weights[chosen][marked].sum() / weights[chosen].sum() == pytest.approx(marked.mean(), abs=1e-3)
    assert balanced.metrics["met"]


def test_balanced_predictions_say_what_their_model_was_trained_on(tmp_path: Path) -> None:
    labels, utterances = tables()
    stated = {KEY: {"made": ["made/s1"]}, MEASURED: None, "model": "m"}
    predicted = Labels(labels.frame, labels.about.with_(made_by=MadeBy(stage="predict", settings=stated)))
    balanced = balance(predicted, utterances, tmp_path / "out").labels
    assert trained_on_of(balanced.about) == {"made": ["made/s1"]}
    _, findings = without_trained_on(balanced, utterances, stage="evaluate")
    assert [finding.count for finding in findings] == [utterances.frame.filter(speaker="made/s1").height]
    assert KEY not in balance(labels, utterances, tmp_path / "plain").labels.about.made_by.settings


def test_other_splits_keep_their_weights_and_rows_keep_their_order(tmp_path: Path) -> None:
    labels, utterances = tables()
    balanced = balance(labels, utterances, tmp_path / "out")
    assert balanced.labels.frame["utterance_id"].to_list() == labels.frame["utterance_id"].to_list()
    others = (utterances.frame["split"] == "test").to_numpy()
    assert (balanced.labels.frame["weight"].to_numpy()[others] == 1.0).all()
    assert balanced.labels.frame.drop("weight").equals(labels.frame.drop("weight"))


def test_classes_can_be_balanced_within_every_level_of_ambiguity(tmp_path: Path) -> None:
    labels, utterances = tables(4_000)
    balanced = balance(labels, utterances, tmp_path / "out", BalanceSettings(within=True))
    chosen = (utterances.frame["split"] == "train").to_numpy()
    levels = balanced.labels.frame["ambiguity"].to_numpy()
    assert balanced.metrics["met"]
    for level in ("low", "medium", "high"):
        np.testing.assert_allclose(share_of(balanced.labels, chosen & (levels == level)), 0.25, atol=6e-3)


def test_shares_given_by_name_and_by_another_labels_file_are_reached(tmp_path: Path) -> None:
    labels, utterances = tables()
    chosen = (utterances.frame["split"] == "train").to_numpy()
    wanted = {"angry": 0.2, "happy": 0.2, "neutral": 0.3, "sad": 0.3}
    balanced = balance(labels, utterances, tmp_path / "out", BalanceSettings(classes=wanted))
    np.testing.assert_allclose(share_of(balanced.labels, chosen), list(wanted.values()), atol=1e-3)
    other, _ = tables(seed=9)
    other.write(tmp_path / "other.parquet")
    balanced = balance(labels, utterances, tmp_path / "out", BalanceSettings(classes=str(tmp_path / "other.parquet")))
    np.testing.assert_allclose(share_of(balanced.labels, chosen), other.distributions().mean(0), atol=1e-3)


def test_a_wish_that_cannot_be_met_is_named_with_what_was_reached(tmp_path: Path) -> None:
    labels, utterances = tables()
    capped = BalanceSettings(cap=Cap(utterance=1.1))
    balanced = balance(labels, utterances, tmp_path / "out", capped)
    assert not balanced.metrics["met"]
    rows = balanced.findings.frame.filter(pl.col("kind") == "wish_not_met")
    assert "classes happy" in rows["where"].to_list()
    assert balanced.labels.frame["weight"].max() <= 1.1 + 1e-6


def test_a_share_that_is_missed_by_less_than_shows_is_reached() -> None:
    asked = np.array([0.158, 0.3])
    near, far = (Balance(np.ones(4), asked - np.array([miss, 0.0]), asked) for miss in (0.0012, 0.003))
    assert not near.missed.any()
    assert near.met
    assert far.missed.tolist() == [True, False]
    assert not far.met


def test_the_fix_for_a_wish_that_is_not_met_is_none_that_was_followed(tmp_path: Path) -> None:
    labels, utterances = tables()
    for chosen, fix in (("uniform", "square_root"), ("square_root", "keep")):
        settings = BalanceSettings(classes=chosen, cap=Cap(utterance=1.01))
        balanced = balance(labels, utterances, tmp_path / chosen, settings)
        fixes = balanced.findings.frame.filter(pl.col("kind") == "wish_not_met")["fix"].unique().to_list()
        assert fixes == [f"Ask for less (classes = {fix}), raise the caps, or add utterances of these shares."]
    free = BalanceSettings(classes={"angry": 0.02, "happy": 0.9, "neutral": 0.04, "sad": 0.04})
    capped = free.model_copy(update={"cap": Cap(utterance=40.0)})
    for settings, last in ((free, "set a cap (cap.utterance = 5)"), (capped, "lower the cap (cap.utterance = 20)")):
        rows = balance(labels, utterances, tmp_path / last[:3], settings).findings.frame
        (fix,) = rows.filter(pl.col("kind") == "few_effective")["fix"].to_list()
        assert fix == f"Ask for less (classes = keep), or {last}."


def test_very_uneven_weights_are_a_warning_and_square_roots_are_not(tmp_path: Path) -> None:
    labels, utterances = tables()
    wanted = {"angry": 0.02, "happy": 0.9, "neutral": 0.04, "sad": 0.04}
    uneven = balance(labels, utterances, tmp_path / "out", BalanceSettings(classes=wanted))
    assert uneven.findings.counts()["few_effective"] == uneven.metrics["utterances"]
    even = balance(labels, utterances, tmp_path / "out", BalanceSettings(classes="square_root"))
    assert "few_effective" not in even.findings.counts()


def test_a_folder_gets_exactly_one_labels_file_a_page_and_its_figures(tmp_path: Path, wording: Wording) -> None:
    labels, utterances = tables()
    balance(labels, utterances, tmp_path / "out")
    wording.page((tmp_path / "out" / "report.html").read_text())
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file())
    assert names == ["labels.parquet", "metrics.json", "report.html", "utterances.parquet"]
    assert len(Labels.read(tmp_path / "out" / "labels.parquet")) == 400


def test_what_cannot_be_balanced_is_refused_with_what_to_write(tmp_path: Path) -> None:
    labels, utterances = tables()
    for settings, words in (
        (BalanceSettings(splits=("training",)), "test, train"),
        (BalanceSettings(classes={"angry": 1.0}), "happy"),
        (BalanceSettings(classes={"angri": 1.0}), "angry"),
        (BalanceSettings(classes="unifrom"), "uniform"),
        (BalanceSettings(groups={"gendre": "uniform"}), "gender"),
        (BalanceSettings(groups={"utterance_id": "uniform"}), "50"),
        (BalanceSettings(groups={"gender": {"femal": 1.0}}), "female"),
        (BalanceSettings(groups={"gender": {"female": 1.0}}), "no share of gender = 'male'"),
    ):
        with pytest.raises((InputError, SettingsError), match=words):
            balance(labels, utterances, tmp_path / "out", settings)
    for none in ((Labels(labels.frame.head(0), labels.about), utterances),
                 (labels, Utterances(utterances.frame.head(0), utterances.about))):  # fmt: skip
        with pytest.raises(InputError, match="(labels|utterances): has no rows. Check that it is the right file"):
            balance(*none, tmp_path / "out")


def test_labels_without_utterances_and_speakers_on_both_sides_are_found(tmp_path: Path) -> None:
    labels, utterances = tables()
    frame = utterances.frame.with_columns(
        split=pl.when(pl.int_range(pl.len()) % 7 == 0).then(pl.lit("test")).otherwise(pl.lit("train"))
    )
    balanced = balance(labels, Utterances.of(frame.tail(390)), tmp_path / "out")
    counts = balanced.findings.counts()
    assert counts["not_described"] == 10
    assert counts["speaker_in_two_splits"] >= 15


def test_balanced_labels_still_say_how_votes_were_counted(tmp_path: Path) -> None:
    labels, utterances = tables()
    counting = Counting(columns=("loud",))
    about = labels.about.with_(made_by=MadeBy(stage="fuse", settings=counting.model_dump(mode="json")))
    balanced = balance(Labels(labels.frame, about), utterances, tmp_path / "out")
    assert counting_of(balanced.labels.about) == counting

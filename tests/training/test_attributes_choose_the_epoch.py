"""With a head for valence, arousal and dominance, these choose the epoch too, by the weight of their loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from small_corpus import small_settings

from alm_proxies.audio.recipe import Sounds
from alm_proxies.models.trained import TrainedModel, read_trained
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Votes
from alm_proxies.training.run_log import read_lines

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Corpus


def fitted(corpus: Corpus, folder: Path, weight: float, *, votes: Votes | None = None, **changes: object) -> Trained:
    given = {
        "epochs": 8,
        "patience": 2,
        "freeze": True,
        **changes,
        "attributes": {"weight": weight, "concordance": 0.5},
    }
    settings = small_settings(corpus.encoder, **given)
    return train(corpus.labels, corpus.utterances, folder, settings, votes=votes or corpus.votes, quiet=True)


def test_the_score_is_the_label_loss_plus_the_weighted_loss_of_the_attributes_of_all_development_utterances(
    corpus: Corpus, tmp_path: Path
) -> None:
    done = fitted(corpus, tmp_path / "out", 0.7, epochs=2)
    epochs = done.epochs
    np.testing.assert_allclose(epochs["score"], epochs["nll_per_vote"] + epochs["attribute_loss"])
    best = epochs.row(int(epochs["score"].arg_min() or 0), named=True)
    judged = corpus.utterances.frame.filter(split="development").sort("utterance_id")["utterance_id"].to_list()
    sounds = Sounds(corpus.utterances, stage="test")
    clips = [clip for name in judged if (clip := sounds.open(name).clip) is not None]
    predicted = TrainedModel.load(done.folder, device="cpu").predict(clips)
    assert predicted.attributes is not None
    assert predicted.deviation is not None
    mean, deviation = predicted.attributes[:, 1], predicted.deviation[:, 1]
    wanted = corpus.labels.frame.sort("utterance_id").filter(pl.col("utterance_id").is_in(judged))["arousal"].to_numpy()
    nll = np.mean(0.5 * np.log(2 * np.pi) + np.log(deviation) + 0.5 * np.square((wanted - mean) / deviation))
    shared = np.cov(mean, wanted, bias=True)[0, 1]
    ccc = 2 * shared / (mean.var() + wanted.var() + (mean.mean() - wanted.mean()) ** 2)
    assert best["attribute_loss"] == pytest.approx(0.7 * (nll + 0.5 * (1 - ccc)), rel=1e-4)
    written = [line for line in read_lines(tmp_path / "out") if line.get("kind") == "epoch"]
    assert [line["attribute_loss"] for line in written] == epochs["attribute_loss"].to_list()
    page = (tmp_path / "out/report.html").read_text()
    assert f"{best['nll_per_vote']:.3f} nats a human vote" in page
    assert "development, attributes" in page


def test_an_epoch_that_is_best_for_the_attributes_is_kept_before_one_that_is_best_for_the_labels(
    corpus: Corpus, tmp_path: Path
) -> None:
    judged = pl.col("utterance_id").is_in(corpus.utterances.frame.filter(split="development")["utterance_id"].to_list())
    other = pl.col("label").replace({"angry": "sad", "sad": "neutral", "neutral": "angry"})
    frame = corpus.votes.frame.with_columns(label=pl.when(judged).then(other).otherwise("label"))
    votes = Votes.of(frame, about=corpus.votes.about)  # the more is learned, the worse the labels of these speakers
    done = fitted(corpus, tmp_path, 10.0, votes=votes, epochs=6)
    epochs = done.epochs
    by_labels, by_both = (int(epochs[name].arg_min() or 0) for name in ("nll_per_vote", "score"))
    assert by_labels < by_both
    assert len(epochs) == min(by_both + 3, 6), "patience counts from the epoch that is kept"
    _, file = read_trained(done.folder)
    assert file.development["nll_per_vote"] == epochs["nll_per_vote"][by_both]
    assert f"{epochs['nll_per_vote'][by_both]:.3f} nats a human vote" in done.line


def test_without_such_a_head_labels_alone_choose(corpus: Corpus, tmp_path: Path) -> None:
    done = fitted(corpus, tmp_path, 0.0, epochs=2)
    assert "attribute_loss" not in done.epochs.columns
    assert done.epochs["score"].to_list() == done.epochs["nll_per_vote"].to_list()

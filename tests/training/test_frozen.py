from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import soundfile
from small_corpus import small_settings, tiny_encoder

from alm_proxies.models.trained import TrainedModel
from alm_proxies.stages.predict.stage import predict
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Utterances
from alm_proxies.training import frozen
from alm_proxies.training.frozen import KeptLoader

if TYPE_CHECKING:
    from conftest import Corpus


@pytest.mark.parametrize("share", [(0, 1), (1, 2)])
def test_kept_clips_come_in_parts_of_at_most_the_micro_batch(share: tuple[int, int]) -> None:
    statistics = np.random.default_rng(0).standard_normal((20, 3, 4)).astype(np.float32)
    known = np.arange(20) != 5
    loader = KeptLoader(statistics, known, ((),) * 20, 0.1, 10.0, most=3)
    whole = KeptLoader(statistics, known, ((),) * 20, 0.1, 10.0)
    plan = [np.arange(11)[::-1].copy(), np.arange(11, 20)]
    for step, other in zip(loader.steps(plan, share=share), whole.steps(plan, share=share), strict=True):
        assert max(len(part.rows) for part in step.parts) == 3
        rows = np.concatenate([part.rows for part in step.parts])
        assert rows.tolist() == other.parts[0].rows.tolist() == [row for row in plan[step.number][share[0] :: share[1]]
                                                                if row != 5]  # fmt: skip
        values = np.concatenate([part.inputs.values.numpy() for part in step.parts])
        np.testing.assert_array_equal(values, statistics[rows])
    unheard = KeptLoader(statistics, np.zeros(20, dtype=np.bool_), ((),) * 20, 0.1, 10.0, most=3)
    assert [step.parts for step in unheard.steps(plan)] == [(), ()]


def test_states_that_are_too_many_are_computed_in_every_epoch_with_a_finding_and_layers_that_fit(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, found = [], []
    clips, width = len(corpus.labels), json.loads((corpus.encoder / "config.json").read_text())["hidden_size"]
    for most in (frozen._MOST, 4 * clips * width * 2):  # what one layer takes
        monkeypatch.setattr(frozen, "_MOST", most)
        settings = small_settings(corpus.encoder, epochs=2, freeze=True, dropout=0.0)
        done = train(corpus.labels, corpus.utterances, tmp_path / str(most), settings, votes=corpus.votes, quiet=True)
        scores.append(done.epochs.select("loss", "nll_per_vote").to_numpy())
        found.append(done.findings.frame.filter(kind="encoded_every_epoch")["fix"].to_list())
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)
    assert found[0] == []
    (fix,) = found[1]
    layers = tuple(json.loads(fix.partition("layers = ")[2].rstrip(".")))
    assert len(layers) == 1
    again = small_settings(corpus.encoder, epochs=1, freeze=True, layers=layers)
    done = train(corpus.labels, corpus.utterances, tmp_path / "some", again, votes=corpus.votes, quiet=True)
    assert "encoded_every_epoch" not in done.findings.counts()


def test_a_micro_batch_bounds_the_kept_clips_at_once_and_changes_no_loss(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alm_proxies.training.frozen import KeptHeads

    seen: list[int] = []
    forward = KeptHeads.forward

    def counted(self: KeptHeads, values: object, lengths: object) -> object:
        seen.append(len(values))  # type: ignore[arg-type]  # a tensor
        return forward(self, values, lengths)  # type: ignore[arg-type]  # tensors

    monkeypatch.setattr(KeptHeads, "forward", counted)
    scores = []
    for most in (None, 2):
        settings = small_settings(corpus.encoder, epochs=2, freeze=True, dropout=0.0, micro_batch=most)
        seen.clear()
        done = train(corpus.labels, corpus.utterances, tmp_path / str(most), settings, votes=corpus.votes, quiet=True)
        assert (max(seen) <= 2) == (most == 2)
        assert TrainedModel.load(done.folder, device="cpu").labels == corpus.labels.taxonomy
        scores.append(done.epochs.select("loss", "nll_per_vote").to_numpy())
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_clip_longer_than_the_encoder_takes_is_not_blamed_on_a_setting(
    freeze: bool, corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "wav").mkdir()
    soundfile.write(tmp_path / "wav/long.wav", 0.1 * np.sin(np.arange(31 * 16_000) / 9), 16_000)
    long = pl.when(pl.col("utterance_id") == "tones/000").then(pl.lit(str(tmp_path / "wav/long.wav")))
    frame = corpus.utterances.frame.with_columns(audio=long.otherwise("audio"))
    utterances = Utterances.of(frame, about=corpus.utterances.about)
    whisper = tiny_encoder(tmp_path / "whisper", "whisper")
    settings = small_settings(whisper, epochs=1, freeze=freeze, longest=60.0)
    done = train(corpus.labels, utterances, tmp_path / "out", settings, votes=corpus.votes, quiet=True)
    (found,) = done.findings.frame.filter(kind="too_long").to_dicts()
    assert "the 30 s that the encoder takes" in found["message"]
    assert "longest" not in found["fix"]
    (found,) = predict(done.folder, utterances, quiet=True).findings.frame.filter(kind="too_long").to_dicts()
    assert "longest" not in found["fix"]

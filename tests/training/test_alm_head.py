"""The recipe alm with a head of its own: what it is, what it learns and saves, and the two ways that it is asked."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import torch
from processes import curve, train_in_two
from tones_in_noise import FAMILIES, LABELS, TINY, TINY_ALM, kill_after_an_epoch, recordings

from alm_proxies import load_trained
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.audio.clip import Clip, open_clip
from alm_proxies.audio.recipe import Sounds
from alm_proxies.engines.registry import VllmServe, open_engine
from alm_proxies.errors import EngineError, InputError, SettingsError
from alm_proxies.models.headed_lm import AttentionHead
from alm_proxies.stages.predict.stage import PredictSettings, predict
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels, Utterances
from alm_proxies.trained_on import without_trained_on
from alm_proxies.training.settings import TrainSettings

if TYPE_CHECKING:
    from conftest import Corpus

Tones = tuple[Utterances, Labels]
NAMES = ("tones/000", "tones/001", "tones/002")
LORA = {"rank": 4, "alpha": 8.0, "rate": 0.005}


def settings_for(base: Path, **changes: Any) -> TrainSettings:
    alm = {"output": "head", "lora": LORA, **changes.pop("alm", {})}
    given = {"recipe": "alm", "name": "headed", "model": str(base), "alm": alm, "epochs": 2, "batch": 6, "seed": 1}
    return TrainSettings.model_validate(given | {"learning_rate": 0.01} | changes)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Tones:
    """Nine recordings to learn from and three to look at, without votes."""
    return recordings(tmp_path_factory.mktemp("few"), 12)


@pytest.fixture(scope="module")
def headed(bases: dict[str, Path], few: Tones, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """An adapter and a head for every family."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        family: train(few[1], few[0], folder / family, settings_for(base), quiet=True) for family, base in bases.items()
    }


@pytest.fixture(scope="module")
def learned(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A new model with a head, trained whole on a corpus with votes until it hears the tones."""
    alm = TINY_ALM.model_copy(update={"output": "head", "answer": "codes", "label_orders": 1})
    settings = TINY.model_copy(update={"alm": alm, "epochs": 16, "name": "headed"})
    folder = tmp_path_factory.mktemp("Köpfe für alle")
    return train(corpus.labels, corpus.utterances, folder, settings, votes=corpus.votes, quiet=True)


def first(corpus: Corpus, count: int) -> Utterances:
    return Utterances.of(corpus.utterances.frame.head(count), about=corpus.utterances.about)


def test_the_head_is_that_of_the_paper_but_for_padding() -> None:
    """Self-attention of all tokens, the first one's output, a residual layer and a narrower one, written out."""
    torch.manual_seed(0)
    head = AttentionHead(16, 3).eval()
    states = torch.randn(2, 5, 16)
    with torch.inference_mode():
        q, k, v = (states @ head.attention.in_proj_weight.T + head.attention.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (8, 2)).transpose(1, 2) for part in (q, k, v))
        attended = ((q @ k.transpose(-1, -2)) / 2**0.5).softmax(-1) @ v
        z = head.attention.out_proj(attended.transpose(1, 2).flatten(2))[:, 0]
        norm1, dense1 = head.residual[0], head.residual[1]
        norm2, dense2, norm3 = head.narrow[0], head.narrow[1], head.narrow[4]
        x = z + torch.nn.functional.gelu(dense1(norm1(z)))
        y = norm3(torch.nn.functional.gelu(dense2(norm2(x))))
        whole = head(states, torch.ones(2, 5, dtype=torch.bool))
        torch.testing.assert_close(whole.vector, y)
        torch.testing.assert_close(whole.logits, head.output(y))
        padded = torch.cat([torch.full((2, 3, 16), 1e3), states], 1)
        mask = torch.tensor([[False] * 3 + [True] * 5] * 2)
        torch.testing.assert_close(head(padded, mask).logits, whole.logits)
    assert [type(part).__name__ for part in head.residual] == ["LayerNorm", "Linear", "Dropout", "GELU"]
    assert [part.p for part in head.modules() if isinstance(part, torch.nn.Dropout)] == [0.15, 0.1]


def test_a_head_without_eight_parts_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"a multiple of 8, not 12.*alm\.output"):
        AttentionHead(12, 3)


def test_it_learns_what_listeners_vote_and_predicts_with_strength_and_abstention(
    learned: Trained, corpus: Corpus
) -> None:
    last = learned.epochs.row(-1, named=True)
    assert last["development"] < last["development_prior"] - 0.2
    assert last["development"] >= last["development_labels"]
    labels = predict(learned.folder, first(corpus, 9)).labels
    assert labels.taxonomy == LABELS
    wanted = corpus.labels.distributions()[:9]
    assert labels.distributions().argmax(1).tolist() == wanted.argmax(1).tolist()
    assert np.abs(labels.distributions() - wanted).mean() < 0.15
    assert labels.frame["concentration"].null_count() == 0
    assert labels.frame["abstain"].dtype == pl.Boolean
    assert load_trained(learned.folder, device="cpu").file.calibration.votes == 36
    assert (learned.folder / "lm" / "model.safetensors").is_file()


def test_the_annotator_file_gives_what_predict_gives(learned: Trained, corpus: Corpus) -> None:
    shares = predict(learned.folder, first(corpus, 4)).labels.distributions()
    clips = [open_clip(corpus.folder / audio) for audio in corpus.utterances.frame["audio"][:4]]
    annotator = Annotator.read(learned.folder / "annotator.toml", taxonomy=LABELS)
    np.testing.assert_allclose(annotator.distribution(clips), shares, atol=1e-5)
    np.testing.assert_allclose(load_trained(learned.folder.parent).distributions(clips), shares, atol=1e-5)
    assert annotator.file.elicit == "score"
    assert "head" in annotator.card(0).estimand


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_and_head_of_every_family_predict_the_same_alone_and_together(
    family: str, headed: dict[str, Trained], few: Tones
) -> None:
    trained = headed[family]
    model = load_trained(trained.folder, device="cpu")
    clips = [clip for name in NAMES if (clip := Sounds(few[0], stage="test", rate=model.rate).open(name).clip)]
    together = model.distributions(clips)
    assert np.ptp(together, axis=0).max() > 2e-4
    np.testing.assert_allclose([model.distributions([clip])[0] for clip in clips], together, atol=1e-5)
    annotator = Annotator.read(trained.folder / "annotator.toml", taxonomy=LABELS)
    np.testing.assert_allclose(annotator.distribution(clips), together, atol=1e-5)
    assert trained.findings.counts() == {"not_calibrated": 1}
    assert sorted(path.name for path in trained.folder.iterdir()) == [
        "README.md", "annotator.toml", "head.safetensors", "lm", "model.json", "norms.safetensors",
    ]  # fmt: skip
    assert sorted(path.name for path in (trained.folder / "lm").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_what_it_was_trained_on_travels_with_predictions_and_votes(learned: Trained, corpus: Corpus) -> None:
    speakers = [f"tones/s{number}" for number in range(8)]
    file = learned.folder / "annotator.toml"
    assert Annotator.read(file, taxonomy=LABELS).card(0).trained_on == {"tones": speakers}
    some = first(corpus, 3)
    kept, findings = without_trained_on(predict(learned.folder, some).labels, some, stage="evaluate")
    assert len(kept) == 0
    assert findings[0].count == 3


def test_its_folder_has_a_card_and_the_training_a_page(learned: Trained) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(learned.folder / "README.md")
    results = card.data.eval_results
    assert results is not None
    metrics = {result.metric_type: result.metric_value for result in results}
    assert metrics["nll_per_vote"] == round(float(learned.epochs["nll_per_vote"].min()), 4)  # type: ignore[arg-type]
    assert card.data.to_dict()["trained_on"][0]["corpus"] == "tones"
    assert "vLLM cannot run the head" in card.text
    assert "human vote on the development speakers" in (learned.folder.parent / "report.html").read_text()
    measured = Annotator.read(learned.folder / "annotator.toml").file.measured
    assert measured is not None
    assert measured.nll_per_vote == pytest.approx(metrics["nll_per_vote_calibrated"], abs=1e-4)


def test_evidence_names_seconds_and_prosody_that_move_it(learned: Trained, corpus: Corpus) -> None:
    predicted = predict(learned.folder, first(corpus, 1), PredictSettings(evidence=True)).labels.frame
    evidence = json.loads(predicted["evidence"][0])
    assert {item["what"] for item in evidence["prosody"]} <= {
        "pitch 2 semitones lower", "pitch 2 semitones higher", "tempo 15 % slower", "tempo 15 % faster",
    }  # fmt: skip
    assert len(evidence["prosody"]) == 3
    assert evidence["seconds"][0]["what"].endswith(" s")
    assert evidence["prosody"][0]["moves"] >= evidence["prosody"][2]["moves"]


def test_losses_differ_and_a_merged_model_predicts_the_same(
    bases: dict[str, Path], headed: dict[str, Trained], few: Tones, tmp_path: Path
) -> None:
    shares = {}
    clips = [clip for name in NAMES if (clip := Sounds(few[0], stage="test").open(name).clip)]
    for loss in ("kld", "jsd_entropy", "class_balanced"):
        settings = settings_for(bases["qwen2_audio"], loss=loss, alm={"merge": loss == "kld"})
        trained = train(few[1], few[0], tmp_path / loss, settings, quiet=True)
        shares[loss] = load_trained(trained.folder, device="cpu").distributions(clips)
    assert (tmp_path / "kld/model/lm/model.safetensors").is_file()
    unmerged = load_trained(headed["qwen2_audio"].folder, device="cpu").distributions(clips)
    np.testing.assert_allclose(shares["kld"], unmerged, atol=1e-5)
    assert np.abs(shares["kld"] - shares["jsd_entropy"]).max() > 1e-3
    assert np.abs(shares["kld"] - shares["class_balanced"]).max() > 1e-3


def weights_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


@pytest.mark.usefixtures("one_thread")
def test_killed_after_an_epoch_adapter_and_head_end_with_the_same_bytes(
    bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    settings = settings_for(bases["glmasr"])
    whole = train(few[1], few[0], tmp_path / "whole", settings, quiet=True)
    kill_after_an_epoch(*few, tmp_path, settings)
    assert not (tmp_path / "out" / "model").exists()
    resumed = train(few[1], few[0], tmp_path / "out", settings, quiet=True)
    assert resumed.epochs.equals(whole.epochs)
    kept = weights_of(whole.folder)
    assert set(kept) == {"head.safetensors", "norms.safetensors", "lm/adapter_model.safetensors"}
    assert weights_of(resumed.folder) == kept
    checkpoint = tmp_path / "whole" / "checkpoints"
    assert all(path.stat().st_size < 2e6 for path in checkpoint.rglob("*"))


def test_two_processes_train_a_head_with_the_losses_of_one(
    corpus: Corpus, bases: dict[str, Path], tmp_path: Path
) -> None:
    alm = {"lora": {**LORA, "dropout": 0.0}}
    settings = settings_for(bases["qwen2_audio"], alm=alm, batch=11)
    without = """
import alm_proxies.models.headed_lm as headed_lm
headed_lm._DROPOUTS = (0.0, 0.0)
"""
    chosen = corpus.utterances.frame.gather_every(2)["utterance_id"].implode()
    own = (corpus.utterances, corpus.labels, corpus.votes)
    tables = [type(table)(table.frame.filter(pl.col("utterance_id").is_in(chosen)), table.about) for table in own]
    utterances, labels, votes = tables
    assert "2 x cpu" in train_in_two(*tables, tmp_path / "two", settings, before=without)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alm_proxies.models.headed_lm._DROPOUTS", (0.0, 0.0))
        trained = train(labels, utterances, tmp_path / "one", settings, votes=votes, quiet=True)
    for kind, name in (("step", "loss"), ("epoch", "score")):
        mine, yours = curve(tmp_path / "two", kind, name), curve(tmp_path / "one", kind, name)
        assert [step for step, _ in mine] == [step for step, _ in yours]
        np.testing.assert_allclose([value for _, value in mine], [value for _, value in yours], rtol=2e-4)
    assert {path.name for path in (tmp_path / "two/model").iterdir()} == {
        path.name for path in trained.folder.iterdir()
    }


def test_what_only_answers_can_do_is_refused(headed: dict[str, Trained]) -> None:
    folder = headed["glmasr"].folder
    silence = Clip(np.zeros(16_000, dtype=np.float32), 16_000)
    file = Annotator.read(folder / "annotator.toml").file
    for changes in ({"elicit": "sample"}, {"answer": "codes"}):
        given = file.model_copy(update=changes)
        asked = Annotator.of(given, where=str(folder / "annotator.toml"), taxonomy=LABELS)
        with pytest.raises(SettingsError, match=r"head of its own and answers nothing.*elicit"):
            asked.distribution([silence])
    with pytest.raises(EngineError, match=r"a head of its own, which vLLM does not run.*transformers"):
        asyncio.run(open_engine(str(folder), VllmServe()))
    with pytest.raises(SettingsError, match="happy"):
        Annotator.read(folder / "annotator.toml", taxonomy=("angry", "happy"))


def test_predict_names_the_way_to_ask_a_model_that_answers(bases: dict[str, Path], few: Tones, tmp_path: Path) -> None:
    given = {"recipe": "alm", "model": str(bases["qwen2_audio"]), "alm": {"lora": LORA}, "epochs": 1, "batch": 9}
    trained = train(few[1], few[0], tmp_path, TrainSettings.model_validate(given), quiet=True)
    with pytest.raises(InputError, match=r"no trained model.*annotate --annotator .*annotator\.toml"):
        predict(trained.folder, few[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alm": {"output": "head", "answer": "words"}}, "nothing is answered"),
        ({"alm": {"output": "head", "label_orders": 2}}, "nothing is answered"),
        ({"alm": {"output": "head"}, "loss": "dirichlet_multinomial"}, "no Dirichlet strength"),
        ({"loss": "jsd"}, "no use for loss"),
        ({"alm": {"output": "head"}, "hidden": 8}, "no use for hidden"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainSettings.model_validate({"recipe": "alm", "model": "x", **changes})


def test_a_base_model_that_was_moved_is_named_anew_in_the_adapter(
    headed: dict[str, Trained], bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(headed["glmasr"].folder, model)
    shutil.copytree(bases["glmasr"], tmp_path / "base")
    config = model / "lm" / "adapter_config.json"
    stated = json.loads(config.read_text())
    config.write_text(json.dumps(stated | {"base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match=r"is missing.*change base_model_name_or_path"):
        load_trained(model)
    config.write_text(json.dumps(stated | {"base_model_name_or_path": str(tmp_path / "base")}))
    clips = [clip for name in NAMES if (clip := Sounds(few[0], stage="test", rate=16_000).open(name).clip) is not None]
    shares = load_trained(headed["glmasr"].folder).distributions(clips)
    np.testing.assert_array_equal(load_trained(model).distributions(clips), shares)
    config.write_text(json.dumps(stated | {"r": 5}))
    with pytest.raises(InputError, match=r"lm/adapter_config.json is not the file that the training wrote"):
        load_trained(model)

"""The recipe alm with a LoRA adapter: what it learns, saves and resumes, for the families that are named as tested."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from tones_in_noise import FAMILIES, LABELS, kill_after_an_epoch, log_p, settings_for, tone

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.audio.recipe import Sounds
from alm_proxies.errors import EngineError, MissingExtraError, SettingsError
from alm_proxies.models.adapters import linear_modules
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.run_log import read_lines
from alm_proxies.training.settings import TrainSettings

Tones = tuple[Utterances, Labels]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_trained_and_its_annotator_file_answers(
    family: str, adapted: dict[str, Trained], bases: dict[str, Path]
) -> None:
    trained = adapted[family]
    annotator = Annotator.read(trained.folder / "annotator.toml", taxonomy=LABELS)
    shares = annotator.distribution([tone(label) for label in LABELS])
    assert annotator.file.trained_on == {"tones": ("", "split:development", "split:train")}
    assert annotator.card(0).trained_on == {"tones": ["", "split:development", "split:train"]}
    assert trained.epochs["loss"][1] < trained.epochs["loss"][0] - 0.3
    untrained = annotator.file.model_copy(update={"model": str(bases[family])})
    before = Annotator.of(untrained, taxonomy=LABELS).distribution([tone(label) for label in LABELS])
    assert np.abs(np.log(before / shares)).max() > 0.2


def test_an_adapter_learns_what_the_labels_say(tones: Tones, trained_on_tones: Trained, tmp_path: Path) -> None:
    """A model that hears the tones learns that the labels of two of them are exchanged."""
    base = trained_on_tones
    frame = tones[1].frame.rename({"p_angry": "p_sad", "p_sad": "p_angry"}).select(tones[1].frame.columns)
    exchanged = Labels.of(frame, about=tones[1].about)
    settings = settings_for(base.folder, epochs=10, batch=6, alm={"answer": "words", "label_orders": 2})
    trained = train(exchanged, tones[0], tmp_path / "adapted", settings, quiet=True)
    assert trained.epochs["development"].min() < trained.epochs["development_prior"][0] - 0.2  # type: ignore[operator]
    clips = [tone(label) for label in LABELS]
    before, after = (
        Annotator.read(folder / "annotator.toml", taxonomy=LABELS).distribution(clips).argmax(axis=1).tolist()
        for folder in (base.folder, trained.folder)
    )
    assert before == [0, 1, 2]
    assert after == [2, 1, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_weights_answer_as_the_adapter_in_peft_does_and_unlike_the_base(
    family: str, adapted: dict[str, Trained], bases: dict[str, Path]
) -> None:
    from peft import LoraConfig, get_peft_model

    folder = adapted[family].folder / ("adapter" if family == "qwen2_audio" else "")
    merged, base = AudioLM.load(folder, device="cpu"), AudioLM.load(bases[family], device="cpu")
    assert np.abs(log_p(merged) - log_p(base)).max() > 0.1
    with safe_open(str(folder / "adapter_model.safetensors"), "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
    assert all(key.startswith("base_model.model.language_model.model.layers.") for key in weights)
    names = [name for name in linear_modules(base.model) if "lm_head" not in name]
    get_peft_model(base.model, LoraConfig(r=4, lora_alpha=8.0, target_modules=names)).eval()
    own = dict(base.model.named_parameters())
    taken = 0
    with torch.no_grad():
        for key, weight in weights.items():
            inside = key.removeprefix("base_model.model.").replace("language_model.model.", "model.language_model.")
            own[inside.replace(".weight", ".default.weight")].copy_(weight)
            taken += 1
    assert taken == 2 * len(names)
    np.testing.assert_allclose(log_p(merged), log_p(base), atol=1e-4)


def test_for_qwen2_audio_the_merged_model_stands_beside_its_adapter(adapted: dict[str, Trained]) -> None:
    folder = adapted["qwen2_audio"].folder
    np.testing.assert_allclose(
        log_p(AudioLM.load(folder, device="cpu")), log_p(AudioLM.load(folder / "adapter", device="cpu")), atol=1e-5
    )
    small = adapted["glmasr"].folder
    assert sorted(path.name for path in small.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "annotator.toml",
    ]  # fmt: skip


def test_its_card_is_one_that_the_hub_reads_and_states_the_scores_of_the_kept_epoch(
    adapted: dict[str, Trained],
) -> None:
    from huggingface_hub import ModelCard

    trained = adapted["glmasr"]
    card = ModelCard.load(trained.folder / "README.md")
    data = card.data.to_dict()
    assert data["trained_on"] == [{"corpus": "tones", "speakers": [""], "splits": ["development", "train"]}]
    assert data["tags"] == ["speech-emotion-recognition", "label-distribution", "alm"]
    best = trained.epochs.row(int(trained.epochs["score"].arg_min() or 0), named=True)
    results = card.data.eval_results
    assert results is not None
    (result,) = results
    assert (result.metric_type, result.metric_value) == ("cross_entropy", round(best["development"], 4))
    assert "It is a LoRA adapter of" in card.text
    for name in ("development", "development_prior", "development_labels"):
        assert f"| {best[name]:.4f} |" in card.text


def test_newbob_multiplies_the_rate_after_an_epoch_without_an_improvement(
    bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    newbob = {"schedule": "newbob", "newbob_factor": 0.25, "newbob_threshold": 0.99}
    settings = settings_for(bases["glmasr"], epochs=3, warmup=0.0, batch=12, **newbob)
    train(few[1], few[0], tmp_path / "whole", settings, quiet=True)
    rates = [line["rate"] for line in read_lines(tmp_path / "whole") if line["kind"] == "step"]
    assert rates == [1.0, 1.0, 0.25]
    kill_after_an_epoch(*few, tmp_path, settings)
    train(few[1], few[0], tmp_path / "out", settings, quiet=True)
    assert without_pace(tmp_path / "out") == without_pace(tmp_path / "whole")
    paces = [line for line in read_lines(tmp_path / "out") if line["kind"] == "step"]
    assert all(line["samples_per_second"] > 0 and 0 <= line["waiting"] < 1 for line in paces)
    assert all(0 <= line["padding"] < 0.5 for line in paces)


def without_pace(folder: Path) -> list[dict[str, Any]]:
    timed = {"samples_per_second", "waiting"}
    return [{name: value for name, value in line.items() if name not in timed} for line in read_lines(folder)]


def test_a_checkpoint_holds_the_adapter_alone(adapted: dict[str, Trained], bases: dict[str, Path]) -> None:
    folder = adapted["glmasr"].folder.parent / "checkpoints"
    whole = (bases["glmasr"] / "model.safetensors").stat().st_size
    weights = list(folder.rglob("*.safetensors"))
    assert sorted(path.name.split("-")[0] for path in weights) == ["best", "trained.safetensors"]
    assert all(path.stat().st_size < whole / 4 for path in folder.rglob("*"))


@pytest.mark.usefixtures("one_thread")
def test_killed_after_an_epoch_the_adapter_ends_with_the_same_bytes(
    bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    settings = settings_for(bases["glmasr"], alm={"lora": {"rank": 4, "rate": 0.01, "dropout": 0.3}})
    whole = train(few[1], few[0], tmp_path / "whole", settings, quiet=True)
    kill_after_an_epoch(*few, tmp_path, settings)
    resumed = train(few[1], few[0], tmp_path / "out", settings, quiet=True)
    assert resumed.epochs.equals(whole.epochs)
    name = "adapter_model.safetensors"
    assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_the_best_epoch_is_kept_and_training_stops_when_nothing_improves(
    bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    wild = settings_for(bases["glmasr"], alm={"lora": {"rank": 2, "rate": 0.5}}, epochs=9, patience=1)
    trained = train(few[1], few[0], tmp_path, wild, quiet=True)
    best = int(trained.epochs["score"].arg_min() or 0) + 1
    assert len(trained.epochs) == best + 1 < 9
    assert [path.name for path in (tmp_path / "checkpoints").glob("best-*")] == [f"best-{best}.safetensors"]


def test_parts_of_a_step_have_the_same_gradient_as_the_whole(
    bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    none = {"lora": {"rank": 4, "rate": 0.01, "dropout": 0.0}}
    scores = []
    for most in (None, 4):
        settings = settings_for(bases["glmasr"], alm=none, epochs=1, micro_batch=most)
        scores.append(train(few[1], few[0], tmp_path / str(most), settings, quiet=True).epochs)
    for name in ("loss", "development"):
        assert scores[0][name][0] == pytest.approx(scores[1][name][0], abs=1e-4)


def test_the_whole_model_of_another_family_can_be_trained(bases: dict[str, Path], few: Tones, tmp_path: Path) -> None:
    settings = settings_for(
        bases["audioflamingo3"], alm={"weights": "all", "lora": {}, "answer": "codes", "label_orders": 3}, epochs=3,
        learning_rate=3e-3,
    )  # fmt: skip
    trained = train(few[1], few[0], tmp_path, settings, quiet=True)
    assert trained.epochs["development"][2] < trained.epochs["development"][0] - 0.3
    assert (trained.folder / "model.safetensors").is_file()
    assert Annotator.read(trained.folder / "annotator.toml", taxonomy=LABELS).file.cross.label_orders == 3


def test_bf16_and_recomputed_activations_learn_too(bases: dict[str, Path], few: Tones, tmp_path: Path) -> None:
    settings = settings_for(bases["glmasr"], precision="bf16", gradient_checkpointing=True, alm={"merge": True})
    trained = train(few[1], few[0], tmp_path, settings, quiet=True)
    assert trained.epochs["loss"][1] < trained.epochs["loss"][0]
    assert (trained.folder / "model.safetensors").is_file()
    assert (trained.folder / "adapter" / "adapter_model.safetensors").is_file()


def test_labels_of_speakers_are_named_in_the_annotator_file(bases: dict[str, Path], few: Tones, tmp_path: Path) -> None:
    frame = few[0].frame.with_columns(speaker=pl.format("tones/{}", pl.int_range(pl.len()) % 4))
    known = Utterances.of(frame, about=few[0].about)
    trained = train(few[1], known, tmp_path, settings_for(bases["qwen2_audio"], epochs=1), quiet=True)
    file = Annotator.read(trained.folder / "annotator.toml").file
    assert file.trained_on == {"tones": ("tones/0", "tones/1", "tones/2", "tones/3")}


def test_a_module_that_the_model_does_not_have_is_named(bases: dict[str, Path], few: Tones, tmp_path: Path) -> None:
    settings = settings_for(bases["glmasr"], alm={"lora": {"targets": ["q_prj"]}})
    with pytest.raises(SettingsError, match=r"no module 'q_prj'.*q_proj.*There are: down_proj"):
        train(few[1], few[0], tmp_path, settings, quiet=True)


@pytest.mark.parametrize("family", ["glmasr", "qwen2_audio"])
def test_what_is_measured_is_what_the_annotator_answers_in_all_label_orders(
    family: str, bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    ids = few[0].frame["utterance_id"]
    cast = {"utterance_id": ids, "annotator": "tones/a", "label": [LABELS[place % 3] for place in range(len(ids))]}
    votes = Votes.of(pl.DataFrame(cast), about=few[1].about)
    settings = settings_for(bases[family], epochs=1, alm={"label_orders": 3})
    done = train(few[1], few[0], tmp_path, settings, votes=votes, quiet=True)
    annotator = Annotator.read(done.folder / "annotator.toml", taxonomy=LABELS)
    judged = few[0].frame["split"] == "development"
    sounds = Sounds(few[0], stage="test", rate=16_000)
    clips = [clip for name in ids.filter(judged) if (clip := sounds.open(name).clip) is not None]
    heard = pl.Series(cast["label"]).filter(judged)
    shares = annotator.distribution(clips)
    loss = -np.mean([np.log(shares[row, LABELS.index(label)]) for row, label in enumerate(heard)])
    assert annotator.file.measured is not None
    assert annotator.file.measured.nll_per_vote == pytest.approx(loss, abs=1e-2)  # spectra are kept in half precision
    assert done.epochs["nll_per_vote"][0] == annotator.file.measured.nll_per_vote
    assert f"| {annotator.file.measured.nll_per_vote:.4f} |" in (done.folder / "README.md").read_text()


def test_a_last_step_that_spoils_the_weights_leaves_no_model(
    bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    wild = settings_for(bases["glmasr"], epochs=1, batch=12, alm={"lora": {"rank": 2, "rate": 1e30}})
    with pytest.raises(EngineError, match=r"development speakers is nan after epoch 1; .* Lower alm.lora.rate"):
        train(few[1], few[0], tmp_path, wild, quiet=True)
    assert not (tmp_path / "model").exists()


def test_an_initial_model_with_a_weight_that_is_no_number_is_not_blamed_on_the_rate(
    bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    lm = AudioLM.load(bases["glmasr"], device="cpu")
    with torch.no_grad():
        linear_modules(lm.model).popitem()[1].weight.fill_(torch.nan)
    lm.save(tmp_path / "base")
    with pytest.raises(EngineError, match=r"at the first step, .* another copy of the initial model"):
        train(few[1], few[0], tmp_path / "out", settings_for(tmp_path / "base"), quiet=True)


def test_without_peft_the_extra_is_named(
    bases: dict[str, Path], few: Tones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == "peft" or name.startswith("peft.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_NoPeft(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"'peft', which is not installed.*alm-proxies\[train\]"):
        train(few[1], few[0], tmp_path, settings_for(bases["glmasr"]), quiet=True)


class _NoPeft:
    """A finder for which peft is not installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "peft":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")


def test_a_rank_of_0_is_refused(bases: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"alm\.lora\.rank\n.*greater than or equal to 1"):
        settings_for(bases["glmasr"], alm={"lora": {"rank": 0}})


@pytest.mark.parametrize(
    ("alm", "message"),
    [
        ({"new": {}, "weights": "adapter"}, "nothing that an adapter could change"),
        ({"optimizer": "muon"}, "adapter is trained with alm.optimizer"),
        ({"weights": "all", "lora": {"rank": 2}}, "lora and merge are for an adapter"),
        ({"weights": "all", "merge": True}, "lora and merge are for an adapter"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(alm: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainSettings.model_validate({"recipe": "alm", "model": None if "new" in alm else "x", "alm": alm})


def test_a_rate_that_nothing_uses_is_refused() -> None:
    with pytest.raises(ValueError, match="no use for learning_rate"):
        TrainSettings.model_validate({"recipe": "alm", "model": "x", "learning_rate": 1e-4})
    with pytest.raises(ValueError, match="no use for backbone_rate"):
        TrainSettings.model_validate({"recipe": "alm", "alm": {"new": {}}, "backbone_rate": 1e-4})


def test_changes_of_mel_frames_are_for_qwen2_audio(bases: dict[str, Path], few: Tones, tmp_path: Path) -> None:
    settings = settings_for(bases["glmasr"], alm={"window_epochs": 1})
    with pytest.raises(SettingsError, match="for Qwen2-Audio, this is a glmasr"):
        train(few[1], few[0], tmp_path, settings, quiet=True)


def test_an_adapter_cannot_be_trained_further(adapted: dict[str, Trained], few: Tones, tmp_path: Path) -> None:
    settings = settings_for(adapted["glmasr"].folder)
    with pytest.raises(SettingsError, match=r"is an adapter.*merge = true"):
        train(few[1], few[0], tmp_path, settings, quiet=True)

"""Adapters beside the weights of a model, and on others than those that they were trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from tones_in_noise import log_p, settings_for

from alm_proxies.errors import InputError
from alm_proxies.models import tiny
from alm_proxies.models.adapters import Adapter
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels, Utterances

Tones = tuple[Utterances, Labels]


def copied(folder: Path, target: Path, **changes: Any) -> Path:
    target.mkdir()
    config = json.loads((folder / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps(config | changes))
    (target / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes())
    return target


@pytest.fixture
def published(adapted: dict[str, Trained], bases: dict[str, Path], tmp_path: Path) -> Path:
    """A model with an adapter beside its weights, which names a text model as its base, as Granite-speech is."""
    folder = copied(adapted["glmasr"].folder, tmp_path / "published", base_model_name_or_path="some/text-model")
    for path in bases["glmasr"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"has_lora_adapter": True}))
    return folder


def test_a_model_with_an_adapter_beside_its_weights_answers_by_both(
    published: Path, adapted: dict[str, Trained], bases: dict[str, Path], few: Tones, tmp_path: Path
) -> None:
    expected = log_p(AudioLM.load(adapted["glmasr"].folder, device="cpu"))
    assert np.abs(log_p(AudioLM.load(bases["glmasr"], device="cpu")) - expected).max() > 0.1
    loaded = AudioLM.load(published, device="cpu")
    np.testing.assert_allclose(log_p(loaded), expected, atol=1e-5)
    loaded.save(tmp_path / "merged")
    np.testing.assert_allclose(log_p(AudioLM.load(tmp_path / "merged", device="cpu")), expected, atol=1e-5)
    further = train(few[1], few[0], tmp_path / "further", settings_for(published, epochs=1), quiet=True).folder
    assert (further / "model.safetensors").is_file(), "vLLM takes no second adapter"
    twice = log_p(AudioLM.load(further, device="cpu"))
    assert np.abs(twice - expected).max() > 0.01
    np.testing.assert_allclose(log_p(AudioLM.load(further / "adapter", device="cpu")), twice, atol=1e-4)
    (published / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"the model's adapter .* is missing.*has_lora_adapter = false"):
        AudioLM.load(published, device="cpu")


@pytest.mark.parametrize("stated", [{"has_lora_adapter": False}, {}], ids=["none", "nothing"])
def test_an_adapter_beside_weights_that_are_not_stated_to_need_it_is_refused(
    stated: dict[str, bool], published: Path, bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was applied a second time where it had been merged into them, from a folder and by a name on the hub."""
    config = json.loads((published / "config.json").read_text())
    config.pop("has_lora_adapter")
    (published / "config.json").write_text(json.dumps(config | stated))
    with pytest.raises(InputError, match=r"applied twice.*Delete adapter_config\.json") as refusal:
        AudioLM.load(published, device="cpu")
    assert refusal.value.where == str(published)
    place = as_downloaded(published, tmp_path / "hub", monkeypatch)
    with pytest.raises(InputError, match=r"applied twice.*Delete adapter_config\.json"):
        AudioLM.load("some/listener", device="cpu")
    (place / "adapter_config.json").unlink()
    expected = log_p(AudioLM.load(bases["glmasr"], device="cpu"))
    for model in (place, "some/listener"):
        np.testing.assert_allclose(log_p(AudioLM.load(model, device="cpu")), expected, atol=1e-5)


def as_downloaded(folder: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move a model to the cache of the hub as a download of some/listener leaves it: nothing here is fetched."""
    kept = hub / "models--some--listener"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    (kept / "snapshots").mkdir()
    place = folder.rename(kept / "snapshots" / ("0" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return place


def test_by_its_name_on_the_hub_it_answers_by_both(
    published: Path, adapted: dict[str, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_downloaded(published, tmp_path / "hub", monkeypatch)
    expected = log_p(AudioLM.load(adapted["glmasr"].folder, device="cpu"))
    np.testing.assert_allclose(log_p(AudioLM.load("some/listener", device="cpu")), expected, atol=1e-5)


def test_an_adapter_on_another_base_is_refused(
    adapted: dict[str, Trained], bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = adapted["glmasr"].folder
    other = tiny.build(tmp_path / "other", "glmasr", seed=5)
    with pytest.raises(InputError, match="has other weights than the adapter was trained on"):
        AudioLM.load(copied(folder, tmp_path / "a", base_model_name_or_path=str(other)), device="cpu")
    with pytest.raises(InputError, match="is missing"):
        AudioLM.load(copied(folder, tmp_path / "b", base_model_name_or_path=str(tmp_path / "gone")), device="cpu")
    for name, value in (("use_dora", True), ("alpha_pattern", {"q_proj": 4})):
        with pytest.raises(InputError, match=f"adapters with {name} are not supported"):
            AudioLM.load(copied(folder, tmp_path / name, **{name: value}), device="cpu")
    wider = tiny.build(tmp_path / "wider", "glmasr", sizes=tiny.Sizes(hidden=192))
    adapter = Adapter.read(folder)
    assert adapter is not None
    with pytest.raises(InputError, match=r"has another size of language_model\.model\.layers"):
        adapter.merge_into(AudioLM.load(wider, device="cpu").model)
    shallow = tiny.build(tmp_path / "shallow", "glmasr", sizes=tiny.Sizes(layers=1))
    with pytest.raises(InputError, match=r"does not have language_model\.model\.layers\.1"):
        adapter.merge_into(AudioLM.load(shallow, device="cpu").model)

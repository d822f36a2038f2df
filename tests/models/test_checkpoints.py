"""Checkpoints are data: a pickle is not opened, code is not run, and what is broken is reported in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from alm_proxies.errors import SettingsError
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.chat_inputs import ChatInputs, config_of


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alm_proxies.models import tiny

    return tiny.build(tmp_path_factory.mktemp("whole") / "tiny")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def edited(folder: Path, **changes: object) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def as_pickle(folder: Path) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def with_code(folder: Path) -> None:
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\nclass C: pass\n", encoding="utf-8")
    edited(folder, model_type="own", auto_map={"AutoConfig": "own.C", "AutoModel": "own.C"})


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def without_some(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(dict(list(weights.items())[1:]), folder / "model.safetensors", {"format": "pt"})


BROKEN = {
    "a pickle": (as_pickle, "weights are a pickle (pytorch_model.bin)"),
    "code of its own": (with_code, "needs its own code (auto_map), which is never run"),
    "cut weights": (cut, "no model could be loaded"),
    "weights that are not there": (without_some, "weights are missing (1), such as"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "it has no weights as safetensors"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "no model could be loaded"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), "no model could be loaded"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no model could be loaded"),
    "a size that is a word": (lambda folder: edited(folder, audio_config={"encoder_layers": "x"}), "no model could be"),
    "an unknown type": (lambda folder: edited(folder, model_type="none"), "no model could be loaded"),
}


@pytest.mark.parametrize(("breaks", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_safe_whole_checkpoint_is_one_sentence(copy: Path, breaks, message, monkeypatch, capsys) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    breaks(copy)
    with pytest.raises(SettingsError) as caught:
        AudioLM.load(copy, device="cpu")
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert not (copy / "ran").exists()


def test_a_whole_checkpoint_with_code_beside_it_is_loaded_without_it(copy: Path) -> None:
    (copy / "own.py").write_text(f"open({str(copy / 'ran')!r}, 'w').close()\n", encoding="utf-8")
    edited(copy, auto_map={"AutoConfig": "own.C"})
    assert ChatInputs.load(copy).rate == 16_000
    assert not (copy / "ran").exists()


def test_a_configuration_is_read_once_and_anew_when_its_file_has_changed(copy: Path) -> None:
    first = config_of(copy, None)
    assert config_of(copy, None) is first
    edited(copy, audio_token_index=first.audio_token_index + 1)
    assert config_of(copy, None).audio_token_index == first.audio_token_index + 1

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from numpy.typing import NDArray

from alm_proxies.audio.clip import Clip
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.models.encoder import Encoder, encoder_digest
from alm_proxies.models.pooled import Pooling

Sound = NDArray[np.float32]
_WAVES = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 3, "vocab_size": 8,
}  # fmt: skip
_KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "wav2vec2 base": (tf.Wav2Vec2Config, {}),
    "wav2vec2 large": (tf.Wav2Vec2Config, {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert base": (tf.HubertConfig, {}),
    "hubert large": (tf.HubertConfig, {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "wavlm base": (tf.WavLMConfig, {}),
    "wavlm large": (tf.WavLMConfig, {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
}
_CLIPS = ((1, 0.4), (2, 1.01), (3, 0.73))


def sound(number: int, seconds: float) -> Sound:
    chance = np.random.default_rng(number)
    time = np.arange(int(seconds * 16_000)) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * chance.uniform(100, 3000) * time) + 0.05 * chance.standard_normal(time.size)
    return np.asarray(tone, dtype=np.float32)


def checkpoint(folder: Path, kind: str) -> Path:
    torch.manual_seed(0)
    if kind == "whisper":
        sizes = {"d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
        ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
        config = tf.WhisperConfig(**sizes, **ids, decoder_layers=0, decoder_attention_heads=2, vocab_size=8)
        tf.WhisperModel(config).save_pretrained(folder)
        tf.WhisperFeatureExtractor().save_pretrained(folder)
        return folder
    config_class, more = _KINDS[kind]
    tf.AutoModel.from_config(config_class(**_WAVES, **more)).save_pretrained(folder)
    tf.Wav2Vec2FeatureExtractor(do_normalize="large" in kind).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["whisper", *_KINDS])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("encoder") / "model", request.param)


def test_a_clip_in_a_padded_batch_has_the_states_it_has_alone(folder: Path) -> None:
    encoder = Encoder.load(folder, device="cpu")
    clips = [sound(*arguments) for arguments in _CLIPS]
    with torch.inference_mode():
        batch = encoder(encoder.prepare(clips))
        alone = [encoder(encoder.prepare([clip])) for clip in clips]
    assert len(batch.states) == encoder.layers + 1 == 4
    for row, single in enumerate(alone):
        frames = single.states[0].shape[1]
        assert int(batch.mask[row].sum()) == frames == int(single.mask.sum())
        for many, own in zip(batch.states, single.states, strict=True):
            assert own.std() > 0.01
            torch.testing.assert_close(many[row, :frames], own[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(batch.pooled()[1], alone[1].pooled()[0], atol=2e-5, rtol=1e-4)


def test_vectors_of_several_clips_at_once_are_those_of_each_alone(folder: Path) -> None:
    clips = [Clip(samples=sound(*arguments), rate=16_000) for arguments in _CLIPS]
    pooling = Pooling(folder, stage="listen", device="cpu")
    try:
        together = pooling.encoding.vectors(clips)
        alone = np.concatenate([pooling.encoding.vectors([clip]) for clip in clips])
    finally:
        pooling.close()
    assert together.shape == (3, pooling.width)
    np.testing.assert_allclose(together, alone, atol=2e-5, rtol=1e-4)


def test_threads_that_encode_at_once_get_their_own_clips_states(folder: Path) -> None:
    encoder = Encoder.load(folder, device="cpu")
    clips = [sound(number, 0.3 + 0.05 * (number % 7)) for number in range(24)]

    def pooled(clip: Sound) -> torch.Tensor:
        with torch.inference_mode():
            return encoder(encoder.prepare([clip])).pooled()

    alone = [pooled(clip) for clip in clips]
    with ThreadPoolExecutor(4) as threads:
        for together, other in zip(threads.map(pooled, clips), alone, strict=True):
            torch.testing.assert_close(together, other, atol=1e-5, rtol=1e-4)


def test_states_of_one_clip_are_those_of_transformers(folder: Path) -> None:
    encoder = Encoder.load(folder, device="cpu")
    clip = sound(5, 0.9)
    reference = tf.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        if encoder.family == "whisper":
            filled = np.concatenate([clip, np.zeros(30 * 16_000 - len(clip), dtype=np.float32)])
            own = encoder(encoder.prepare([filled]))
            given = encoder.extractor(clip, sampling_rate=16_000, return_tensors="pt")["input_features"]
            states = reference.get_encoder()(given, output_hidden_states=True).hidden_states
        else:
            own = encoder(encoder.prepare([clip]))
            given = encoder.prepare([clip]).values
            states = reference(given, output_hidden_states=True).hidden_states
        last = reference.get_encoder()(given) if encoder.family == "whisper" else reference(given)
    assert len(states) == len(own.states)
    for ours, theirs in list(zip(own.states, states, strict=True))[:-1]:
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(own.states[-1], last.last_hidden_state, atol=2e-5, rtol=1e-4)


def test_pooling_is_mean_and_deviation_over_the_clips_own_frames(folder: Path) -> None:
    encoder = Encoder.load(folder, device="cpu")
    with torch.inference_mode():
        hidden = encoder(encoder.prepare([sound(*arguments) for arguments in _CLIPS]))
        pooled = hidden.pooled([1, 3])
    own = hidden.states[3][0][hidden.mask[0]]
    expected = torch.cat([own.mean(0), own.std(0, correction=0)])
    assert pooled.shape == (3, 2, 2 * encoder.width)
    torch.testing.assert_close(pooled[0, 1], expected, atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_first_layer_in_training(folder: Path) -> None:
    encoder = Encoder.load(folder, device="cpu").train()
    hidden = encoder(encoder.prepare([sound(*arguments) for arguments in _CLIPS]))
    assert len(hidden.states) == 4
    hidden.pooled()[:, -1].square().sum().backward()
    blocks = encoder.backbone.layers if encoder.family == "whisper" else encoder.backbone.encoder.layers
    gradient = next(blocks[0].parameters()).grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_a_saved_encoder_gives_the_same_states(folder: Path, tmp_path: Path) -> None:
    encoder = Encoder.load(folder, device="cpu")
    encoder.save(tmp_path / "again")
    again = Encoder.load(tmp_path / "again", device="cpu")
    with torch.inference_mode():
        first, second = (model(model.prepare([sound(7, 0.6)])) for model in (encoder, again))
    torch.testing.assert_close(first.states[-1], second.states[-1], atol=0, rtol=0)
    assert encoder_digest(tmp_path / "again") == encoder_digest(tmp_path / "again")
    weights = tmp_path / "again" / "model.safetensors"
    before = encoder_digest(tmp_path / "again")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert encoder_digest(tmp_path / "again") != before


def test_two_encoders_of_which_only_middle_layers_were_trained_have_two_digests(tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        layers = np.zeros((60, 2**18), dtype=np.float32)  # a MiB each
        layers[25:27] = np.random.default_rng(seed).standard_normal((2, 2**18))
        (tmp_path / str(seed) / "model.safetensors").write_bytes(layers.tobytes())
    assert encoder_digest(tmp_path / "1") != encoder_digest(tmp_path / "2")


def test_a_model_that_is_no_encoder_and_a_clip_of_no_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such folder, and no model on the hub can have this name"):
        Encoder.load(tmp_path / "nothing")
    tf.BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(SettingsError, match="type 'bert' is no known encoder.*whisper, wavlm, wav2vec2, hubert"):
        Encoder.load(tmp_path / "bert")
    encoder = Encoder.load(checkpoint(tmp_path / "whisper", "whisper"), device="cpu")
    with pytest.raises(InputError, match=r"clip 1 lasts 0\.01 s, this encoder takes from 0\.1 s to 30 s"):
        encoder.prepare([sound(0, 0.5), sound(1, 0.01)])


def test_an_encoder_that_would_be_partly_random_is_refused_and_so_is_a_damaged_one(
    folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    whole, config = load_file(copy / "model.safetensors"), json.loads((copy / "config.json").read_text())
    unused = {name for name in whole if name.startswith("decoder.") or name.endswith("masked_spec_embed")}
    assert unused
    save_file({k: v for k, v in whole.items() if k not in unused}, copy / "model.safetensors", {"format": "pt"})
    clip = sound(1, 0.4)
    with torch.inference_mode():
        before = Encoder.load(folder, device="cpu")
        lacking = Encoder.load(copy, device="cpu")
        for first, second in zip(
            before(before.prepare([clip])).states, lacking(lacking.prepare([clip])).states, strict=True
        ):
            assert torch.equal(first, second)
    name = next(name for name in whole if ".layers.1." in name and name.endswith("weight") and name not in unused)
    save_file({k: v for k, v in whole.items() if k != name}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(SettingsError, match=rf"weights are missing \(1\), such as .*{name.rpartition('.')[2]}"):
        Encoder.load(copy, device="cpu")
    save_file(whole, copy / "model.safetensors", {"format": "pt"})
    more = {name: config[name] + 1 for name in ("encoder_layers", "num_hidden_layers") if name in config}
    (copy / "config.json").write_text(json.dumps(config | more))
    with pytest.raises(SettingsError, match=r"weights are missing \(\d+\), such as"):
        Encoder.load(copy, device="cpu")
    (copy / "config.json").write_text(json.dumps(config | dict.fromkeys(more, "x")))
    with pytest.raises(SettingsError, match="no encoder could be loaded"):
        Encoder.load(copy, device="cpu")
    (copy / "config.json").write_text(json.dumps(config))
    for size in (0, 4000):
        (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:size])
        with pytest.raises(SettingsError, match="no encoder could be loaded"):
            Encoder.load(copy, device="cpu")


def test_a_whisper_with_the_preprocessor_of_another_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "whisper", "whisper")
    tf.WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)
    with pytest.raises(SettingsError, match="gives 128 mel bands, the model takes 80"):
        Encoder.load(folder, device="cpu")


def test_the_real_whisper_encoder_hears_the_same_in_unpadded_and_padded_batches(test_data: Path) -> None:
    model = test_data.parent / "models" / "whisper_tiny_en_encoder"
    if not model.is_dir():
        pytest.skip("the folder beside the test data holds no Whisper encoder")
    from alm_proxies.audio.clip import open_clip

    encoder = Encoder.load(model, device="cpu")
    files = sorted((test_data / "crema_d" / "AudioWAV").iterdir())[:3]
    clips = [open_clip(path).samples for path in files]
    with torch.inference_mode():
        batch = encoder(encoder.prepare(clips)).pooled()
        alone = torch.cat([encoder(encoder.prepare([clip])).pooled() for clip in clips])
    torch.testing.assert_close(batch, alone, atol=1e-3, rtol=1e-3)
    assert batch.shape == (3, 5, 768)
    assert float((batch[0, 4] - batch[1, 4]).abs().max()) > 0.1

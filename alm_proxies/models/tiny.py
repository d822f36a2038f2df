"""Tiny audio-language models of real classes with random weights, built offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from alm_proxies.errors import SettingsError
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.chat_inputs import Conversation
from alm_proxies.models.families import FAMILIES, save

_MARKS = {
    "qwen2_audio": ("<|AUDIO|>", "Audio: <|audio_bos|>", "<|audio_eos|>\n"),
    "qwen2_5_omni_thinker": ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
    "audioflamingo3": ("<sound>", "", ""),
    "granite_speech": ("<|audio|>", "", ""),
    "glmasr": ("<|pad|>", "<|audio_bos|>", "<|audio_eos|>"),
}
_POSITIONS_A_SECOND = 50
_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
    "<|vision_bos|>",
    "<|vision_eos|>",
    "<sound>",
    "<|audio|>",
    "<|pad|>",
)
_WORDS = (
    "Which emotion does the speaker express? Answer with one word. Answer with one letter.",
    "angry calm contempt disgust fearful happy neutral sad surprised other excited frustrated",
    '{"angry": 0.25, "happy": 0.75}',
    "system user assistant You listen to speech and name the emotion that you hear.",
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a tiny model; attention heads are 32 wide, which every engine supports."""

    hidden: int = 128
    layers: int = 2
    audio_hidden: int = 64
    audio_layers: int = 2
    vocabulary: int = 448


@dataclass(frozen=True, slots=True)
class Hearing:
    """The form of a Whisper encoder."""

    bins: int = 128
    heads: int | None = None
    feed_forward: int | None = None
    places: int = 1500
    """The positions of its window, 50 a second: 1500 are the usual 30 s."""
    activation: str = "gelu"

    @classmethod
    def of(cls, config: Any) -> Hearing:
        """That of a Whisper's configuration."""
        heads, width = config.encoder_attention_heads, config.encoder_ffn_dim
        return cls(config.num_mel_bins, heads, width, config.max_source_positions, config.activation_function)


def build(
    folder: str | Path,
    family: str = "qwen2_audio",
    *,
    seed: int = 0,
    sizes: Sizes = Sizes(),
    words: Sequence[str] = (),
    hearing: Hearing = Hearing(),
) -> Path:
    """Write a random checkpoint of a family that loads like a full-size one; its vocabulary is made from `words`."""
    if family not in FAMILIES:
        raise SettingsError(f"no family {family!r}", fix=f"There are: {', '.join(FAMILIES)}.")
    target = Path(folder)
    processor = processor_for(family, sizes=sizes, words=words, hearing=hearing)
    tokenizer = processor.tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(family, tokenizer, sizes, hearing)
        _loud(model)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = tf.GenerationConfig(**ends, bos_token_id=tokenizer.pad_token_id)
    save(model, target)
    processor.save_pretrained(target)
    return target


def answer_with(folder: str | Path, conversations: Sequence[Conversation], answers: Sequence[str]) -> None:
    """Change a tiny checkpoint's output layer so that answers[i], of one token each, is the likeliest of `answers` for
    conversations[i] (minimum-norm solution of rows @ hidden = 4 * identity).
    """
    lm = AudioLM.load(folder, device="cpu")
    head = lm.model.get_output_embeddings()
    states: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][0, -1].detach()))
    with torch.inference_mode():
        for conversation in conversations:
            lm.model(**lm.inputs.batch([conversation]))
    hook.remove()
    hidden = torch.stack(states).double()
    rows = 4.0 * torch.linalg.pinv(hidden).T
    with torch.no_grad():
        for answer, row in zip(answers, rows, strict=True):
            (token,) = lm.inputs.answer(answer)
            head.weight[token] = row.to(head.weight.dtype)
    save(lm.model, folder)


def processor_for(
    family: str, *, sizes: Sizes = Sizes(), words: Sequence[str] = (), hearing: Hearing = Hearing()
) -> Any:
    """The processor of a family with its own small vocabulary: chat template, special tokens, spectra."""
    return _processor(family, _tokenizer(family, sizes, words), hearing)


def _tokenizer(family: str, sizes: Sizes, words: Sequence[str]) -> Any:
    """Byte-level BPE over a few sentences; every special token of every family is in it."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=sizes.vocabulary - len(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    built.train_from_iterator([*_WORDS, *words], trainer)
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=built,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(_SPECIAL),
        model_max_length=4096,
        extra_special_tokens={
            "image_token": "<|IMAGE|>",
            "audio_token": _MARKS[family][0],
            "video_token": "<|VIDEO|>",
            "vision_bos_token": "<|vision_bos|>",
            "vision_eos_token": "<|vision_eos|>",
            "audio_bos_token": "<|audio_bos|>",
            "audio_eos_token": "<|audio_eos|>",
        },
    )
    tokenizer.chat_template = _template(family)
    return tokenizer


def _template(family: str) -> str:
    audio, before, after = _MARKS[family]
    sound = (before + audio + after).replace("\n", "\\n")
    part = f"{{{{ '{sound}' if part['type'] == 'audio' else part['text'] }}}}"
    return (
        "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\\n' }}"
        "{% if turn['content'] is string %}{{ turn['content'] }}"
        f"{{% else %}}{{% for part in turn['content'] %}}{part}{{% endfor %}}{{% endif %}}"
        "{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )


def _processor(family: str, tokenizer: Any, hearing: Hearing) -> Any:
    whisper = {"feature_size": hearing.bins, "sampling_rate": 16_000, "hop_length": 160, "n_fft": 400}
    template = tokenizer.chat_template
    if family == "granite_speech":
        extractor = tf.GraniteSpeechFeatureExtractor(projector_window_size=15, projector_downsample_rate=5)
        return tf.GraniteSpeechProcessor(extractor, tokenizer, audio_token="<|audio|>", chat_template=template)
    extractor = tf.WhisperFeatureExtractor(**whisper, chunk_length=hearing.places // _POSITIONS_A_SECOND)
    if family == "qwen2_audio":
        return tf.Qwen2AudioProcessor(extractor, tokenizer, chat_template=template)
    if family == "audioflamingo3":
        return tf.AudioFlamingo3Processor(extractor, tokenizer, chat_template=template, audio_token="<sound>")
    if family == "glmasr":
        return tf.GlmAsrProcessor(extractor, tokenizer, chat_template=template, audio_token="<|pad|>")
    return tf.Qwen2_5OmniProcessor(
        tf.Qwen2VLImageProcessor(), tf.Qwen2VLVideoProcessor(), extractor, tokenizer, chat_template=template
    )


def _model(family: str, tokenizer: Any, sizes: Sizes, hearing: Hearing) -> Any:
    token = tokenizer.convert_tokens_to_ids
    audio_token = token(_MARKS[family][0])
    vocabulary = (len(tokenizer) + 63) // 64 * 64
    text = {
        "vocab_size": vocabulary,
        "hidden_size": sizes.hidden,
        "intermediate_size": 2 * sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.hidden // 32,
        "num_key_value_heads": max(1, sizes.hidden // 64),
        "max_position_embeddings": 4096,
        "bos_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
        "tie_word_embeddings": False,
        "initializer_range": 0.1,
    }
    heads = hearing.heads or sizes.audio_hidden // 32
    whisper = {
        "num_mel_bins": hearing.bins,
        "encoder_layers": sizes.audio_layers,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": hearing.feed_forward or 2 * sizes.audio_hidden,
        "d_model": sizes.audio_hidden,
        "max_source_positions": hearing.places,
        "activation_function": hearing.activation,
    }
    if family == "qwen2_audio":
        config = tf.Qwen2AudioConfig(
            audio_config=tf.Qwen2AudioEncoderConfig(**whisper).to_dict(),
            text_config=tf.Qwen2Config(**text).to_dict(),
            audio_token_index=audio_token,
            tie_word_embeddings=False,
        )
        return tf.Qwen2AudioForConditionalGeneration(config)
    if family == "qwen2_5_omni_thinker":
        third = sizes.hidden // (sizes.hidden // 32) // 2
        rope = {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [third - 2 * (third // 3), third // 3, third // 3],
        }
        vision = {
            "depth": 1,
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": sizes.hidden,
            "fullatt_block_indexes": [0],
        }
        config = tf.Qwen2_5OmniThinkerConfig(
            audio_config={**whisper, "output_dim": sizes.hidden},
            vision_config=vision,
            text_config={**text, "rope_parameters": rope},
            audio_token_index=audio_token,
            image_token_index=token("<|IMAGE|>"),
            video_token_index=token("<|VIDEO|>"),
            vision_start_token_id=token("<|vision_bos|>"),
            vision_end_token_id=token("<|vision_eos|>"),
            audio_start_token_id=token("<|audio_bos|>"),
            audio_end_token_id=token("<|audio_eos|>"),
        )
        return tf.Qwen2_5OmniThinkerForConditionalGeneration(config)
    encoder = {
        "num_mel_bins": 128,
        "hidden_size": sizes.audio_hidden,
        "num_hidden_layers": sizes.audio_layers,
        "num_attention_heads": heads,
    }
    if family == "audioflamingo3":
        config = tf.AudioFlamingo3Config(
            audio_config={
                **encoder,
                "intermediate_size": 2 * sizes.audio_hidden,
                "max_source_positions": hearing.places,
            },
            text_config={"model_type": "qwen2", **text},
            audio_token_id=audio_token,
        )
        return tf.AudioFlamingo3ForConditionalGeneration(config)
    if family == "glmasr":
        config = tf.GlmAsrConfig(
            audio_config={**encoder, "intermediate_size": 4 * sizes.audio_hidden},
            text_config={"model_type": "llama", **text},
            audio_token_id=audio_token,
            tie_word_embeddings=False,
        )
        return tf.GlmAsrForConditionalGeneration(config)
    config = tf.GraniteSpeechConfig(
        text_config={"model_type": "granite", **text},
        encoder_config={
            "input_dim": 160,
            "num_layers": sizes.audio_layers,
            "hidden_dim": sizes.audio_hidden,
            "num_heads": heads,
            "output_dim": 42,
        },
        projector_config={
            "model_type": "blip_2_qformer",
            "hidden_size": sizes.audio_hidden,
            "encoder_hidden_size": sizes.audio_hidden,
            "num_hidden_layers": 1,
            "num_attention_heads": heads,
            "intermediate_size": 2 * sizes.audio_hidden,
        },
        audio_token_index=audio_token,
        has_lora_adapter=False,
        tie_word_embeddings=False,
    )
    return tf.GraniteSpeechForConditionalGeneration(config)


def _loud(model: Any) -> None:
    """Enlarge the random weights of the audio path and the output layer, so that the audio changes the answer."""
    hearing = ("audio_tower", "projector", "encoder.")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and any(mark in name for mark in hearing) and "conv" not in name:
                weight.normal_(0, 0.2)
        model.get_output_embeddings().weight.normal_(0, 0.25)

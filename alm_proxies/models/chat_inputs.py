"""Inputs of an audio-language model from conversations about clips: text by its chat template, tokens, spectra."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoProcessor

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.models import windows
from alm_proxies.models.checkpoints import DATA_ONLY, not_loaded, refuse_code, refuse_unreachable
from alm_proxies.models.families import LOADING, family_of

Part = str | NDArray[np.float32]
Conversation = Sequence[tuple[str, Sequence[Part]]]
"""Turns of (role, parts); a part is text or a clip's samples at the model's rate."""

_PADDED_WITHOUT_MASK = frozenset({"granite_speech"})
_TAIL = 3
"""Frames of silence after the longest clip, so that its last frames are as with more padding."""


class ChatInputs:
    """Converts conversations to a model's inputs."""

    def __init__(self, processor: Any, family: str) -> None:
        self.processor = processor
        self.family = family
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.audio_token_id = int(self.tokenizer.convert_tokens_to_ids(processor.audio_token))
        extractor = getattr(processor, "feature_extractor", None) or processor.audio_processor
        self.rate = int(extractor.sampling_rate)
        self.max_audio_seconds = _longest(processor, extractor)
        self.equal_lengths_only = family in _PADDED_WITHOUT_MASK
        """Whether clips of different lengths cannot share a batch, since the model does not mask padding."""
        self.end_of_turn = self._end_of_turn()

    @classmethod
    def load(cls, model: str | Path, *, revision: str | None = None) -> Self:
        """The inputs of a checkpoint: a folder or a name on the hub."""
        config = config_of(model, revision)
        try:
            processor = AutoProcessor.from_pretrained(str(model), revision=revision, **DATA_ONLY)
        except LOADING as error:
            raise not_loaded(model, error) from error
        if not getattr(processor, "chat_template", None) or not hasattr(processor, "audio_token"):
            raise SettingsError(
                "this model has no chat template with audio", where=str(model), fix="Name an instruction-tuned one."
            )
        return cls(processor, family_of(config))

    def text(self, conversation: Conversation, *, answer_follows: bool = True) -> str:
        """The prompt as text, with one placeholder per clip."""
        messages = [{"role": role, "content": [_content(part) for part in parts]} for role, parts in conversation]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=answer_follows, tokenize=False)
        return str(text)

    def tokens(self, text: str) -> list[int]:
        """A prompt's tokens, with one audio token per clip."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def answer(self, text: str) -> tuple[int, ...]:
        """An answer's tokens."""
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def batch(
        self,
        conversations: Sequence[Conversation],
        *,
        answer_follows: bool = True,
        device: str = "cpu",
        padded: bool = True,
    ) -> dict[str, Tensor]:
        """Conversations as one padded batch of tensors (tokens, mask, audio features), spectra computed on `device`.

        Unless `padded`, the spectra are not padded to 30 s where the model masks what is padded, but to the longest
        clip; `windows.at_its_length` lets the model take them.
        """
        clips = [clip for conversation in conversations for clip in clips_of(conversation)]
        for clip in clips:
            if self.max_audio_seconds is not None and len(clip) > self.max_audio_seconds * self.rate:
                raise InputError(
                    f"a clip of {len(clip) / self.rate:.1f} s is longer than the {self.max_audio_seconds:g} s "
                    "this model accepts"
                )
        texts = [self.text(conversation, answer_follows=answer_follows) for conversation in conversations]
        audio: dict[str, Any] = {"audio": clips} if clips else {}
        if clips:
            audio["audio_kwargs"] = {"device": device} | (
                {} if self.equal_lengths_only else {"sampling_rate": self.rate}
            )
        if clips and not padded and self.family in windows.FAMILIES:
            audio["audio_kwargs"]["max_length"] = self._samples(max(map(len, clips)))
        inputs = self.processor(text=texts, **audio, text_kwargs={"padding": True}, return_tensors="pt")
        return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}

    def _samples(self, longest: int) -> int:
        """The samples that the spectra of a clip are computed of: an even number of frames, with a tail of silence."""
        extractor = self.processor.feature_extractor
        pair = 2 * int(extractor.hop_length)
        return min(pair * -(-(longest + _TAIL * int(extractor.hop_length)) // pair), int(extractor.n_samples))

    def _end_of_turn(self) -> int:
        """The token that ends the assistant's turn, from the chat template."""
        try:
            rendered = self.text([("user", ["?"]), ("assistant", ["!"])], answer_follows=False)
        except Exception as error:
            raise SettingsError(f"the chat template does not support an assistant turn ({error})") from error
        after = self.tokens(rendered[rendered.rindex("!") + 1 :])
        special = [token for token in after if token in set(self.tokenizer.all_special_ids)]
        return int(special[0]) if special else int(self.tokenizer.eos_token_id)


def clips_of(conversation: Conversation) -> list[NDArray[np.float32]]:
    """The clips of a conversation in order."""
    return [part for _, parts in conversation for part in parts if not isinstance(part, str)]


def config_of(model: str | Path, revision: str | None) -> Any:
    """The configuration of a checkpoint; raises an error with the reason if it cannot be loaded."""
    refuse_code(model)
    refuse_unreachable(model, revision)
    file = Path(model) / "config.json"
    try:
        if not file.is_file():  # a name on the hub
            return AutoConfig.from_pretrained(str(model), revision=revision, **DATA_ONLY)
        return _config_with(str(model), file.read_bytes())
    except LOADING as error:
        raise not_loaded(model, error) from error


@lru_cache(maxsize=8)
def _config_with(folder: str, _content: bytes) -> Any:
    """The configuration in a folder, which nothing changes: it is looked at four times as a model is loaded."""
    return AutoConfig.from_pretrained(folder, **DATA_ONLY)


def _content(part: Part) -> dict[str, str]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "audio", "audio": "clip"}


def _longest(processor: Any, extractor: Any) -> float | None:
    """The longest audio, in seconds, that the processor does not truncate silently."""
    if hasattr(processor, "max_audio_len"):
        return float(processor.max_audio_len)
    samples = getattr(extractor, "n_samples", None)
    return samples / extractor.sampling_rate if samples is not None else None

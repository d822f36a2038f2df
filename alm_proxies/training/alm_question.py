"""What an audio-language model is asked in training: the prompt, its tokens in every label order, and the answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile, Cross
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.engines.engine import Audio
from alm_proxies.engines.turns import conversation_of
from alm_proxies.errors import SettingsError
from alm_proxies.models import around_whisper, small_qwen2_audio, tiny
from alm_proxies.models.adapters import Adapter
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.report.drawing import listed
from alm_proxies.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class AskedPrompt:
    """The prompt's tokens in every order of the labels, and the token that answers each label in that order."""

    prompts: tuple[tuple[int, ...], ...]
    answers: tuple[tuple[int, ...], ...]


def asker_of(settings: TrainSettings, labels: tuple[str, ...]) -> Annotator:
    """The annotator for the trained model, with the same prompt as in training; a head gives the labels themselves."""
    file = AnnotatorFile(
        name=settings.name,
        engine="transformers",
        model=settings.model or "new",
        prompt=settings.alm.prompt,
        elicit="score",
        answer=settings.alm.answer if settings.alm.output == "answer" else "words",
        cross=Cross(label_orders=settings.alm.label_orders),
    )
    asker = Annotator.of(file, taxonomy=labels)
    if shown := asker.prompt.context_fields:
        message = f"alm.prompt: training shows a model the recording alone, and this prompt shows {listed(shown)} too"
        raise SettingsError(message, where=asker.prompt.where, fix='Choose another prompt, such as "listener".')
    return asker


def beginning(settings: TrainSettings, asker: Annotator, folder: Path, *, write: bool = True) -> str | Path:
    """The initial checkpoint; a new one has a vocabulary of the prompt's words, and is there already unless `write`."""
    new, target = settings.alm.new, folder / "new"
    if new is None:
        adapter = Adapter.read(str(settings.model))
        if adapter is not None and adapter.base != str(settings.model):
            fix = "Name its base model, or train with merge = true and name the merged model."
            raise SettingsError("is an adapter, which cannot be trained further", where=str(settings.model), fix=fix)
        return str(settings.model)
    if not write:
        return target
    sizes = tiny.Sizes(**new.model_dump(exclude={"encoder"}))
    rendered = asker.prompt.render(
        labels=asker.labels, codes=asker.codes(asker.cells[0]), focus=None, context=PromptContext()
    )
    words = [rendered.system, rendered.before, rendered.after]
    words += [*asker.labels, *(f" {label}" for label in asker.labels)] * 8
    if new.encoder is not None:
        return around_whisper.build(
            target, new.encoder, sizes=sizes, words=words, seed=settings.seed, revision=settings.revision
        )
    return small_qwen2_audio.build(target, sizes=sizes, words=words, seed=settings.seed)


def asked_prompt(asker: Annotator, lm: AudioLM, *, answers: bool = True) -> AskedPrompt:
    """The prompt and its answers as tokens; raises if an answer has several tokens. A head needs no `answers`."""
    silence = Audio(np.zeros(lm.inputs.rate, dtype=np.float32), lm.inputs.rate)
    questions = [asker.question(cell, silence, PromptContext()) for cell in asker.cells]
    prompts = [lm.inputs.tokens(lm.inputs.text(conversation_of(question, lm.inputs.rate))) for question in questions]
    choices = [question.choices if answers else () for question in questions]
    tokens = [[lm.inputs.answer(choice) for choice in order] for order in choices]
    for order, answers_of_order in zip(choices, tokens, strict=True):
        for choice, several in zip(order, answers_of_order, strict=True):
            if len(several) != 1:
                raise SettingsError(f"the answer {choice!r} has {len(several)} tokens", fix='Write answer = "codes".')
    if any(prompt.count(lm.inputs.audio_token_id) != 1 for prompt in prompts):
        raise SettingsError("the prompt does not have the recording exactly once", where=asker.prompt.where)
    return AskedPrompt(tuple(map(tuple, prompts)), tuple(tuple(several[0] for several in order) for order in tokens))

"""Every stage by its verb, with its help sentence; the declaration is in the stage's settings.py."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alm_proxies.stage import Stage

STAGES = {
    "simulate": "Synthesise a corpus of speech with listeners' votes and the true distributions.",
    "read": "Read a corpus's own label files into utterances and votes.",
    "annotate": "Ask audio-language models for votes; run it again to resume.",
    "listen": "Train a listener on the corpus's own human votes, and predict votes on speakers it was not trained on.",
    "fuse": "Fuse human and proxy votes into label distributions.",
    "align": "Report how well proxies and fused labels agree with human votes.",
    "balance": "Weigh labels so that classes, ambiguity and groups have wanted shares.",
    "train": "Train a model on label distributions; run it again to resume.",
    "predict": "Predict label distributions with a trained model, for utterances or a folder of recordings.",
    "evaluate": "Compare models' predictions with held-out human votes.",
    "export": "Write labels in the format of a trainer, with a data card.",
}
"""In dependency order: a stage comes after those it needs outputs of."""


@cache
def stage_of(verb: str) -> Stage:
    """The declaration of a stage."""
    return import_module(f"alm_proxies.stages.{verb}.settings").STAGE  # type: ignore[no-any-return]  # the module is named, not imported

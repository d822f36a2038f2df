"""Every stage by its verb, with its help sentence; the declaration is in the stage's settings.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def runs_around(folder: Path, stage: Stage, *, a_file: bool) -> list[Path]:
    """The folders that a pipeline may not have alone meanwhile: this one, unless only a file of it is written, and one
    of whose stages it is. Raises InputError if another has one of them alone now.

    A stage that locks its folder itself locks it against all others.
    """
    from alm_proxies.alone import is_mine, is_taken, locks_for_all, taken

    if not locks_for_all():
        return []
    folder = folder.absolute()
    inside = {run: folder.relative_to(run).parts for run in (folder, *folder.parents)}
    runs = [run for run, parts in inside.items() if (parts[0] in STAGES if parts else not a_file) and not is_mine(run)]
    for run in runs:
        if is_taken(run):
            raise taken(run)
    return [run for run in runs if run != folder or not stage.locks]


def beside_runs(verb: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a stage that locks its folder as the command does: a pipeline may not run into it meanwhile."""
    stage = stage_of(verb)
    if not stage.into_folder:
        return function
    signature = inspect.signature(function)

    @wraps(function)
    def beside_others_called(*words: Any, **named: Any) -> Any:
        from alm_proxies.alone import beside_others
        from alm_proxies.files import folder_to_fill

        around: Path | None = None
        with suppress(TypeError):  # the function says what is wrong with its arguments
            around = Path(signature.bind(*words, **named).arguments["folder"])
        if around is None:
            return function(*words, **named)
        with folder_to_fill(around), beside_others(runs_around(around, stage, a_file=False)):
            return function(*words, **named)

    beside_others_called.__module__ = "alm_proxies"  # where pickle finds it, for another process
    return beside_others_called

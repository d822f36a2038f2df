"""The forecast of train."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from alm_proxies.ballots import only_held_out
from alm_proxies.errors import SettingsError
from alm_proxies.files import weights_digest
from alm_proxies.printable import counted
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.table_splits import of_any_split
from alm_proxies.training.settings import TrainSettings


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The content of the initial model (its name if it is not a folder) and of the prompt."""
    settings: TrainSettings = ahead.settings
    digests: dict[str, str] = {}
    if settings.model is not None:
        path = Path(settings.model).expanduser()
        digests["model"] = weights_digest(path) if path.is_dir() else settings.model
    if settings.alm.new is not None and settings.alm.new.encoder is not None:
        encoder = Path(settings.alm.new.encoder).expanduser()
        digests["encoder"] = weights_digest(encoder) if encoder.is_dir() else settings.alm.new.encoder
    if settings.recipe == "alm":
        from alm_proxies.annotators.prompts import prompt_of

        digests["prompt"] = prompt_of(settings.alm.prompt).digest()
    return digests


def foresee(ahead: Ahead) -> Foreseen:
    """The number of labels of each split that training uses; missing packages, effects and prompts."""
    labels = ahead.count("labels", "labels")
    needed = () if ahead.settings.recipe == "features" else ("torch", "transformers", "accelerate")
    if ahead.settings.recipe == "alm" and ahead.settings.alm.adapts:
        needed = (*needed, "peft")
    missing = [name for name in needed if find_spec(name) is None]
    fix = "Install it with: pip install 'alm-proxies[train]'"
    facts = [_used(ahead, labels)] if labels else []
    if (reason := ahead.settings.not_predicted) is not None:
        facts.append(f"{reason[0]}, so that nothing is predicted and evaluated; annotate requests its votes")
    problems = [f"training needs {missing[0]}, which is not installed. {fix}"] if missing else []
    try:
        refuse_effects(ahead.settings)
        if ahead.settings.recipe == "alm":
            from alm_proxies.annotators.prompts import prompt_of

            prompt_of(ahead.settings.alm.prompt)
    except SettingsError as error:
        problems.append(str(error))
    return Foreseen(facts=tuple(facts), problems=tuple(problems))


def refuse_effects(settings: TrainSettings) -> None:
    """Raise for the first effect on training clips that does not exist or cannot take its ranges."""
    if settings.augment:
        from alm_proxies.audio.effects import refuse_ranges

        for number, change in enumerate(settings.augment, start=1):
            refuse_ranges(change.effect, change.between, f"augment of {settings.name!r}, effect {number}")


def _used(ahead: Ahead, labels: float) -> str:
    """How many labels are learned from and how many choose the epoch, where the splits are known."""
    utterances, votes = ahead.table("utterances"), ahead.table("votes")
    if utterances is None:
        return f"at most {counted(labels, 'label')}: those of split train, or without a split, are learned from"
    split, ids = utterances.frame["split"].fill_null("train"), utterances.frame["utterance_id"]
    learned = (split == "train") & ~ids.is_in(of_any_split(utterances.frame).implode())
    if votes is not None:
        learned &= ~ids.is_in(only_held_out(votes).implode())
    added = max(0, round(labels) - len(ids))  # copies and generated items are of split train
    train, development = int(learned.sum()) + added, int((split == "development").sum())
    if development:
        return (
            f"about {counted(train, 'label')} of split train to learn from, {development:,} of development choose "
            "the epoch"
        )
    share, speakers = ahead.settings.development, utterances.frame["speaker"]
    whose = "them" if speakers.null_count() == len(speakers) else "their speakers"
    return f"about {counted(train, 'label')} of split train to learn from; {share:.0%} of {whose} choose the epoch"

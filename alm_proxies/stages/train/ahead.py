"""What can be known of train before it runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from alm_proxies.files import weights_digest
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.training.settings import TrainSettings


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The model to begin from, by content where it is a folder and else by name, and the content of the prompt."""
    settings: TrainSettings = ahead.settings
    found: dict[str, str] = {}
    if settings.model is not None:
        path = Path(settings.model).expanduser()
        found["model"] = weights_digest(path) if path.is_dir() else settings.model
    if settings.recipe == "alm":
        from alm_proxies.annotators.prompts import prompt_of

        found["prompt"] = prompt_of(settings.alm.prompt).digest()
    return found


def foresee(ahead: Ahead) -> Foreseen:
    """How many labels there will be to learn from, and which packages are missing."""
    labels = ahead.count("labels", "labels")
    needed = () if ahead.settings.recipe == "features" else ("torch", "transformers", "accelerate")
    missing = [name for name in needed if find_spec(name) is None]
    fix = "Install it with: pip install 'alm-proxies[train]'"
    return Foreseen(
        facts=(f"about {labels:,.0f} labels to learn from",) if labels else (),
        problems=(f"training needs {missing[0]}, which is not installed. {fix}",) if missing else (),
    )

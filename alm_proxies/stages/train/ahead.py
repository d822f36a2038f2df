"""What can be known of train before it runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from alm_proxies.files import digest_file, weights_digest
from alm_proxies.stage import Ahead, Foreseen


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The content of files and folders that its settings name: a model to begin from, a prompt."""
    named = {key: value for key in ("model", "prompt") if isinstance(value := getattr(ahead.settings, key, None), str)}
    found: dict[str, str] = {}
    for key, value in named.items():
        path = Path(value).expanduser()
        if path.is_dir():
            found[key] = weights_digest(path)
        elif path.is_file():
            found[key] = digest_file(path)
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

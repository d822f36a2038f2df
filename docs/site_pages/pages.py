"""Every generated page: where it lies in the site, and the function that makes its Markdown."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from site_pages import commands, consumers, house, settings_keys, words

ROOT = Path(__file__).parents[2]


def project_urls() -> dict[str, str]:
    """The addresses of the project, as pyproject.toml gives them."""
    urls: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    return urls


def copied(name: str, links: dict[str, str]) -> Callable[[], str]:
    """A document of the repository as a page: links to other pages of the site stay inside it."""

    def make() -> str:
        text = (ROOT / name).read_text(encoding="utf-8")
        folder = Path(name).parent
        source = f"{project_urls()['Source']}/blob/main/"

        def link(match: re.Match[str]) -> str:
            target = match[2]
            if re.match(r"[a-z]+:|#", target):
                return match[0]
            inside = (ROOT / folder / target.split("#")[0]).resolve().relative_to(ROOT).as_posix()
            return f"[{match[1]}]({links.get(inside, source + inside)})"

        return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", link, text)

    return make


def schema(name: str) -> str:
    """The JSON Schema of a file that users write."""
    from alm_proxies.pipeline import schema as schemas

    content: dict[str, object] = getattr(schemas, f"{name}_schema")()
    return json.dumps(content, indent=1, ensure_ascii=False)


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands.page,
    "reference/settings.md": settings_keys.page,
    "reference/pipeline.schema.json": lambda: schema("pipeline"),
    "reference/annotator.schema.json": lambda: schema("annotator"),
    "reference/stages.md": words.stages_page,
    "reference/plugins.md": words.plugins_page,
    "reference/exports.md": consumers.page,
    "reference/tables.md": words.tables_page,
    "reference/findings.md": words.findings_page,
    "reference/metrics.md": words.metrics_page,
    "reference/cards.md": words.cards_page,
    "reference/features.md": words.features_page,
    "reference/errors.md": words.errors_page,
    "reference/python.md": house.python_page,
    "house/map.md": house.map_page,
    "benchmarks.md": copied(
        "benchmarks/README.md",
        {
            "docs/simulator.md": "simulator.md",
            "docs/study_crema_d.md": "study_crema_d.md",
            "docs/crema_d.md": "crema_d.md",
            "CONTRIBUTING.md": "house/contributing.md",
        },
    ),
    "house/contributing.md": copied("CONTRIBUTING.md", {}),
    "house/security.md": copied("SECURITY.md", {}),
    "house/changelog.md": copied("CHANGELOG.md", {}),
}
"""The pages by their place in the site."""

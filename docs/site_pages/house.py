"""The map of the house, one line a file, and the page of the Python names: both from docstrings."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from site_pages.cells import code, first_sentence, plain, table

ROOT = Path(__file__).parents[2]
_MAP = """# The map

Every file with what its first line says it is. Tables flow one way through the stages; things live on floors below and
know nothing of the stages; a floor imports only the floors below it, which a linter checks. Start reading in the
`stage.py` of any room under `stages/`.
"""
_PYTHON = """# Python

Every public name, importable as `from alm_proxies import ...`; nothing else is promised to stay. Importing the package
loads nothing heavy: a name is loaded when it is first asked for. Types are checked strictly and ship with the wheel.
"""


def map_page() -> str:
    """The floors from top to bottom, and every file."""
    parts = [_MAP, "## Floors\n", table(("floor", "rooms"), _floors())]
    folders = sorted({path.parent for path in (ROOT / "alm_proxies").rglob("*.py") if path.stat().st_size})
    for folder in folders:
        rows = [(code(path.name), _line(path)) for path in sorted(folder.glob("*.py")) if path.stat().st_size]
        parts.append(f"## {code(folder.relative_to(ROOT).as_posix() + '/')}\n\n{table(('file', 'what it is'), rows)}")
    beside = [(code(name), words) for name, words in _BESIDE]
    parts.append(f"## Beside the package\n\n{table(('place', 'what it is'), beside)}")
    return "\n".join(parts)


def python_page() -> str:
    """Every public name with its signature and docstring, grouped by the module that it comes from."""
    import alm_proxies

    homes = alm_proxies._HOMES
    parts = [_PYTHON]
    left = dict(homes)
    for title, modules in (*_GROUPS, ("More", ("alm_proxies",))):
        listed = [(module, left.pop(module)) for module in tuple(left) if module.startswith(modules)]
        if listed:
            parts.append(f"## {title}\n")
            parts += [f"::: {module}.{name}\n" for module, names in listed for name in names]
    return "\n".join(parts)


_GROUPS = (
    ("Stages", ("alm_proxies.stages", "alm_proxies.pipeline")),
    ("Tables and taxonomies", ("alm_proxies.tables", "alm_proxies.taxonomy", "alm_proxies.cards", "alm_proxies.about")),
    (
        "Annotators and sound",
        ("alm_proxies.annotators", "alm_proxies.audio", "alm_proxies.models", "alm_proxies.plugins"),
    ),
    ("Estimators", ("alm_proxies.estimators", "alm_proxies.measures", "alm_proxies.training")),
    ("Errors", ("alm_proxies.errors",)),
)
_BESIDE = (
    ("prompts/", "Prompts in TOML, shipped with the package; third parties' come from their own packages."),
    ("pipelines/", "Pipeline files and, in `annotators/`, annotator files, shipped with the package."),
    ("data_cards/", "One card a corpus: licence, whether it may leave the machine, scales, columns."),
    ("benchmarks/", "Scripts that made every figure of this project, and the figures."),
    ("tests/", "Mirrors the package: `alm_proxies/audio/clip.py` is tested by `tests/audio/test_clip.py`."),
    ("docs/", "This site; `site_pages/` makes its generated pages."),
    ("requirements/", "The lock of the test environment, with hashes, and that of the vLLM test environment."),
)


def _floors() -> Iterator[tuple[int, str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    for number, layer in enumerate(layers):
        yield len(layers) - number, ", ".join(code(room.strip()) for room in layer.replace(":", "|").split("|"))


def _line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return plain(paragraph) if len(paragraph) < 130 else first_sentence(docstring)

"""The page of export formats: who reads each, what it holds, and which program loaded it in the last run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from site_pages.cells import code, plain, table

RESULTS = Path(__file__).parents[1] / "consumers.json"
_HEAD = """# Export formats

`alm-proxies export LABELS --utterances U --format NAME -o DIR` writes one of these. *Tested by* is the program itself,
run by `make consumers` in an environment of its own on 30 recordings whose path has a space and letters outside ASCII,
and what it did in the last run. *Untested* means that no program it is for has loaded it: `make test` then only reads
it back as the format's description says.
"""


def page() -> str:
    """Every format with the outcome of the last run."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))["results"] if RESULTS.is_file() else []
    return made_of(results)


def made_of(results: Sequence[dict[str, Any]]) -> str:
    """The page for these results."""
    from alm_proxies.plugins import plugins

    rows = []
    for name, plugin in sorted(plugins("exports").items()):
        kind = plugin.load()
        holds = "one label" if kind.one_label else "distributions"
        rows.append((code(name), plain(kind.title), holds, plain(kind.losses), plain(_tested(name, results))))
    return f"{_HEAD}\n{table(('format', 'read by', 'holds', 'loss that fits', 'tested by'), rows)}"


def _tested(name: str, results: Sequence[dict[str, Any]]) -> str:
    own = [result for result in results if result["format"] == name]
    return "; ".join(map(_words, own)) or "untested"


def _words(result: dict[str, Any]) -> str:
    if result["outcome"] == "loaded":
        step = ", trained one step" if result.get("step") is not None else ""
        return f"{result['version']}: loaded {result['rows']} rows{step} ({result['day']})"
    return f"{result['program']}: {result['outcome']} ({result['why']}), so untested"

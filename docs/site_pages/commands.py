"""The page of commands: what each of them prints for --help."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

_HEAD = """# Commands

What each command prints for `--help`, taken from the program itself.

A result is one line on stdout, or one line of JSON with `--json`; progress and notices go to stderr. Every result and
every error end with an [exit code](errors.md#exit-codes).

"""


def page() -> str:
    """Every command and sub-command with its help."""
    from alm_proxies.cli.app import app

    application = app()
    application.help_formatter = "plain"
    parts = [_HEAD]
    for path in ((), *_paths(application)):
        title = " ".join(("alm-proxies", *path))
        parts.append(f"{'##' if len(path) < 2 else '###'} {title}\n\n```text\n{_help(application, path)}\n```\n")
    return "\n".join(parts)


def _paths(application: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    names = [name for name in application if not name.startswith("-")]
    for name in sorted(names, key=lambda name: (application[name].sort_key or 0, name)):
        yield (*path, name)
        yield from _paths(application[name], (*path, name))


def _help(application: Any, path: tuple[str, ...]) -> str:
    from rich.console import Console

    text = io.StringIO()
    application.help_print(list(path), console=Console(file=text, width=82, color_system=None))
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())

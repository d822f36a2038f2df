"""Help of a stage's command as plain text: a summary, arguments, and flags with their values and defaults.

It is written here because cyclopts takes longer for thirty flags than all imports together.
"""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from alm_proxies.cli.flags import plain
from alm_proxies.cli.stages import Command, commands_of
from alm_proxies.stages.registry import STAGES

_WIDEST = 26
_PAIRS = "NAME=VALUE,..."
_KEYS = "reference/settings.html"
_ALWAYS = (
    ("--json", "Print the result as one line of JSON."),
    ("--quiet", "Show no progress on stderr."),
    ("--debug", "Show the traceback of an error."),
    ("--log-file PATH", "Append all messages to this file too, without secrets."),
    ("--max-left-out SHARE", "The share that may be left out; above it the exit code is 1. [default: 0.1]"),
    ("--help, -h", "Show this help."),
)


def help_of(verb: str, arguments: Sequence[str]) -> str:
    """The help of a stage's command, or of its sub-commands if the arguments name none."""
    commands = commands_of(verb, arguments)
    return "\n".join(_sections(verb, commands) if len(commands) > 1 else _one(commands[0]))


def _sections(verb: str, commands: Sequence[Command]) -> Iterator[str]:
    yield f"Usage: alm-proxies {verb} COMMAND\n\n{STAGES[verb]}\n\nCommands:"
    for each in commands:
        yield from _row(each.words.removeprefix(f"{verb} "), each.sentence)
    yield f"\nalm-proxies {verb} COMMAND --help shows the flags of each."


def _one(command: Command) -> Iterator[str]:
    arguments, flags = [], []
    for parameter in command.parameters():
        if parameter.name == "common_":
            continue
        kind, shown = get_args(parameter.annotation)
        several = "..." if get_origin(kind) is list else ""
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            name = (shown.name[0] if shown.name else parameter.name).upper()
            arguments.append((f"{name}{several}", shown.help))
            continue
        needed = parameter.default is inspect.Parameter.empty
        names = ", ".join([*shown.name, *(shown.negative or ())])
        value = _value(command, parameter.name, shown.name)
        flags.append((f"{names}{f' {value}' if value else ''}", f"{shown.help}{' [needed]' if needed else ''}"))
    names = " ".join(name for name, _ in arguments)
    yield f"Usage: alm-proxies {command.words} {names}{' ' if names else ''}-o PATH [flags]\n\n{command.sentence}"
    for title, rows in (("Arguments", arguments), ("Flags", [*flags, *_ALWAYS])):
        if rows:
            yield f"\n{title}:"
            for left, right in rows:
                yield from _row(left, right or "")
    if any(_PAIRS in left for left, _ in flags):
        yield f"\nWhat each NAME of a flag with NAME=VALUE means: {_KEYS} in the documentation"


def _row(left: str, right: str) -> Iterator[str]:
    width = min(max(shutil.get_terminal_size().columns, 60), 120)
    lines = textwrap.wrap(right, width - _WIDEST - 4) or [""]
    if len(left) > _WIDEST:
        yield f"  {left}"
    else:
        yield f"  {left:<{_WIDEST}}  {lines.pop(0)}"
    yield from (" " * (_WIDEST + 4) + line for line in lines)


def _value(command: Command, name: str, spelled: Sequence[str]) -> str:
    """The placeholder for a flag's value, by its type."""
    flag = next((flag for flag in command.flags if flag.names[0] in spelled), None)
    if flag is None:
        return "LABELS" if name == "taxonomy_" else "PATH"
    return "" if flag.switch else _word(plain(flag.annotation))


def _word(kind: Any) -> str:
    if get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return _PAIRS
    if get_origin(kind) is tuple:
        return "LOW:HIGH" if Ellipsis not in get_args(kind) else "A,B,..."
    return {int: "N", float: "X"}.get(kind, "VALUE")

"""Help of a stage's command, in plain text: what it does, its arguments and its flags with their values and defaults.

Written here and not by the command line's library, whose help of thirty flags takes longer than all imports together.
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
_ALWAYS = (
    ("--json", "Print the result as one line of JSON."),
    ("--quiet", "No progress on stderr."),
    ("--debug", "Show the traceback of an error."),
    ("--log-file PATH", "Write what is said to this file too, at its end, without keys."),
    ("--max-left-out SHARE", "The share that may be left out before the exit code is 1. [default: 0.1]"),
    ("--help, -h", "Show this help."),
)


def help_of(verb: str, arguments: Sequence[str]) -> str:
    """The help of a stage's command, or of its sub-commands where the arguments name none."""
    commands = commands_of(verb, arguments)
    return "\n".join(_sections(verb, commands) if len(commands) > 1 else _one(commands[0]))


def _sections(verb: str, commands: Sequence[Command]) -> Iterator[str]:
    yield f"Usage: alm-proxies {verb} COMMAND\n\n{STAGES[verb]}\n\nCommands:"
    for one in commands:
        yield from _row(one.words.removeprefix(f"{verb} "), one.sentence)
    yield f"\nalm-proxies {verb} COMMAND --help shows what each takes."


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
        value = _value(command, parameter.name)
        flags.append((f"{names}{f' {value}' if value else ''}", f"{shown.help}{' [needed]' if needed else ''}"))
    names = " ".join(name for name, _ in arguments)
    yield f"Usage: alm-proxies {command.words} {names}{' ' if names else ''}-o PATH [flags]\n\n{command.sentence}"
    for title, rows in (("Arguments", arguments), ("Flags", [*flags, *_ALWAYS])):
        if rows:
            yield f"\n{title}:"
            for left, right in rows:
                yield from _row(left, right or "")


def _row(left: str, right: str) -> Iterator[str]:
    width = min(max(shutil.get_terminal_size().columns, 60), 120)
    lines = textwrap.wrap(right, width - _WIDEST - 4) or [""]
    if len(left) > _WIDEST:
        yield f"  {left}"
    else:
        yield f"  {left:<{_WIDEST}}  {lines.pop(0)}"
    yield from (" " * (_WIDEST + 4) + line for line in lines)


def _value(command: Command, name: str) -> str:
    """What stands behind a flag, by the type that is wanted."""
    flag = next((flag for flag in command.flags if flag.key == name), None)
    if flag is None:
        return "LABELS" if name == "taxonomy_" else "PATH"
    return "" if flag.switch else _word(plain(flag.annotation))


def _word(kind: Any) -> str:
    if get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return "NAME=VALUE,..."
    if get_origin(kind) is tuple:
        return "LOW:HIGH" if Ellipsis not in get_args(kind) else "A,B,..."
    return {int: "N", float: "X"}.get(kind, "VALUE")

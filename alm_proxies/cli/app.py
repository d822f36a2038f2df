"""The command-line application: commands by name, errors as sentences, exit codes.

0 done, 1 finished but more was left out than allowed, 2 wrong input or settings, 3 an engine or device failed,
70 a defect of ours, 130 interrupted. Commands are registered by string, so that --help imports none of them.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnknownOptionError, UnusedCliTokensError

from alm_proxies import __version__
from alm_proxies.cli.ending import INTERRUPTED, SENTENCE, defect, refuse
from alm_proxies.errors import AlmProxiesError
from alm_proxies.files import refuse_remote
from alm_proxies.log import LOG, logging_to
from alm_proxies.machine import refuse_windows
from alm_proxies.plugins import fault_of
from alm_proxies.printable import printable, printable_json, printable_lines
from alm_proxies.stages.registry import STAGES

if TYPE_CHECKING:
    from alm_proxies.cli.outcome import Outcome

_BEFORE = {
    "demo": (
        "pipelines",
        "Make a small corpus of synthetic speech, run all stages on it and write a report. Start here.",
    ),
    "run": ("pipelines", "Run a pipeline file; stages that are unchanged are skipped."),
    "check": ("pipelines", "Check a pipeline file and show counts, price and time before anything runs."),
    "explain": ("pipelines", "Show every vote, reply, prompt and weight behind one label, in any folder of results."),
}
_BEHIND = {
    "status": ("folders", "Show the progress, cost and files of a folder of results."),
    "findings": ("folders", "List everything that was left out or went wrong in a folder of results, by severity."),
    "compare": ("comparing", "Compare runs on the same held-out votes: one table and one page."),
    "merge": ("ledgers", "Merge the ledgers and votes of several shards into one."),
    "plugins": (
        "about",
        "List all readers, estimators, engines, prompts, exports and recipes, shipped and third-party.",
    ),
    "cache": (
        "kept",
        "Show what the cache holds: server abilities, features, remote recordings, digests; or clear it.",
    ),
    "schema": ("about", "Print the JSON Schema of pipeline, annotator or metrics files, for editors."),
    "completion": ("completion", "Print, or install, what a shell needs to complete commands, flags and paths."),
}
VERBS = (*_BEFORE, *STAGES, *_BEHIND)


def app(arguments: Sequence[str] = ()) -> App:
    """Build the command-line application; only the command that the arguments name is loaded."""
    application = App(
        name="alm-proxies",
        help="Trustworthy label distributions for speech emotion: a few human votes, many synthetic ones, one report.",
        version=__version__,
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=()),
    )
    ours = {verb: ("stages", sentence) for verb, sentence in STAGES.items()}
    for position, (verb, (module, sentence)) in enumerate({**_BEFORE, **ours, **_BEHIND}.items()):
        if verb in STAGES and verb in arguments[:1]:
            from alm_proxies.cli.stages import command

            built = command(verb, arguments)
            if isinstance(built, App):
                built.sort_key = position
                application.command(built)
            else:
                application.command(built, name=verb, help=sentence, sort_key=position)
        else:
            application.command(f"alm_proxies.cli.{module}:{verb}", name=verb, help=sentence, sort_key=position)
    return application


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; a user's mistake is one sentence, --debug shows the traceback."""
    try:
        with logging_to(_log_file(arguments)):
            return _run(arguments)
    except AlmProxiesError as error:  # the log itself cannot be written
        return _refuse(str(error), error.exit_code, debug="--debug" in arguments)


def _log_file(arguments: Sequence[str]) -> Path | None:
    """What --log-file names; looked for first, so that errors are logged too."""
    for place, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag == "--log-file" and (equals or place + 1 < len(arguments)):
            return Path(value if equals else arguments[place + 1])
    return None


def _refuse_remote_outputs(arguments: Sequence[str]) -> None:
    """Raise for an output at an address, before any work; the functions that write files refuse it too."""
    for place, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag in ("-o", "--output", "--folder") and (equals or place + 1 < len(arguments)):
            refuse_remote(Path(value if equals else arguments[place + 1]))


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    LOG.info("alm-proxies %s: %s", __version__, shlex.join(arguments))
    try:
        refuse_windows()
        if arguments[:1] and arguments[0] in STAGES and {"--help", "-h"} & set(arguments):
            from alm_proxies.cli.help import help_of

            print(help_of(arguments[0], arguments), flush=True)
            return 0
        _refuse_remote_outputs(arguments)
        outcome = app(arguments)(arguments, exit_on_error=False, print_error=False)
        if outcome is None:  # --help and --version have printed already
            return 0
        return _print(outcome)
    except CycloptsError as error:
        return _refuse(f"{_sentence(error, arguments)} See alm-proxies {_verb(error)}--help.", 2)
    except AlmProxiesError as error:
        return _refuse(str(error), error.exit_code, debug=debug)
    except KeyboardInterrupt:
        return _refuse(SENTENCE, INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and (fault := fault_of(error)) is not None:
            return _refuse(str(fault), fault.exit_code, debug=debug)
        place = f"{error.filename}: " if error.filename else ""
        return _refuse(
            f"{place}{error.strerror or error}. Check the path, its permissions and the space left.", 3, debug=debug
        )
    except MemoryError:
        return _refuse("There was not enough memory. Try a smaller part of the data (--limit), or more memory.", 3)
    except Exception as error:
        if (fault := fault_of(error)) is not None:
            return _refuse(str(fault), fault.exit_code, debug=debug)
        LOG.error("a defect", exc_info=error)
        return defect(error, debug=debug)


def _print(outcome: Outcome) -> int:
    LOG.info("exit code %d: %s", outcome.exit_code, outcome.line.partition("\n")[0])
    if outcome.as_json:
        print(printable_json(json.dumps(outcome.data, ensure_ascii=False, allow_nan=False)), flush=True)
    else:
        print(printable_lines(outcome.line), flush=True)
    return outcome.exit_code


def _refuse(sentence: str, code: int, *, debug: bool = False) -> int:
    LOG.error("exit code %d: %s", code, sentence, exc_info=debug)
    if debug:
        traceback.print_exc()
    refuse(printable(sentence))
    return code


def _sentence(error: CycloptsError, arguments: Sequence[str]) -> str:
    argument = error.argument
    if isinstance(error, MissingArgumentError) and argument is not None and not error.tokens_so_far:
        flag = error.keyword or next((token.keyword for token in argument.tokens[::-1] if token.keyword), None)
        if flag:
            return f"{flag} has no value.{_joined(flag, arguments)}"
        close = str(error).partition("Did you mean")
        name = argument.name.lstrip("-").upper() if argument.index is not None else argument.name
        return f"{name} is missing. {''.join(close[1:])}".strip()
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"There is no place for {', '.join(map(repr, error.unused_tokens))}."
    if isinstance(error, UnknownOptionError) and (sentence := _no_option(error)):
        return sentence
    text = " ".join(str(error).split()).replace('"', "'")
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _joined(flag: str, arguments: Sequence[str]) -> str:
    """How a value that begins with - is given; empty where the flag is followed by no such word."""
    after = [word for before, word in pairwise(arguments) if before == flag]
    word = next((word for word in after if word.startswith("-") and not word.startswith("--")), None)
    return "" if word is None else f" A value that begins with - is joined to it: {flag}={word}."


def _no_option(error: UnknownOptionError) -> str:
    """The sentence on a flag behind --, or on a word with one - that may be a value; empty for any other."""
    word = error.token.keyword or error.token.value
    flag = word.partition("=")[0]
    if any(flag in each.names for each in error.argument_collection):
        return f"{flag} stands behind --, where no flags are read. Write it before the --."
    if word.startswith("--"):
        return ""
    return f"Unknown option: {word}. A name or a path that begins with - goes to the end, behind --: -- {word}."


def _verb(error: CycloptsError) -> str:
    return "".join(f"{word} " for word in error.command_chain or ())

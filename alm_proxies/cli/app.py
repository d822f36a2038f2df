"""The command line: verbs by name, errors as sentences, exit codes.

0 done, 1 finished but more was left out than allowed, 2 wrong input or settings, 3 an engine or device failed,
130 interrupted. Commands are registered by string, so that --help imports none of them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Parameter

from alm_proxies import __version__
from alm_proxies.errors import AlmProxiesError
from alm_proxies.machine import refuse_windows

if TYPE_CHECKING:
    from alm_proxies.cli.outcome import Outcome

_VERBS = {
    "demo": "Make a small corpus of synthetic speech, run everything on it and write a report: start here.",
    "run": "Run a pipeline file; stages that are unchanged are skipped.",
    "check": "Say all that can be known about a pipeline file before anything is spent.",
    "explain": "Show every vote, reply, prompt and weight behind one label.",
    "simulate": "Synthesise a corpus of speech with listeners' votes and the true distributions.",
    "read": "Read a corpus's own label files into utterances and votes.",
    "annotate": "Ask audio-language models for votes; run it again to resume.",
    "fuse": "Fuse human and proxy votes into label distributions.",
    "align": "Report how well proxies and fused labels agree with human votes.",
}
_ELSEWHERE = dict.fromkeys(("demo", "run", "check", "explain"), "pipelines") | {"annotate": "annotating"}


def app() -> App:
    """The command-line application."""
    made = App(
        name="alm-proxies",
        help="Trustworthy label distributions for speech emotion: a few human votes, many synthetic ones, one report.",
        version=__version__,
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=()),
    )
    for position, (verb, sentence) in enumerate(_VERBS.items()):
        module = _ELSEWHERE.get(verb, "commands")
        made.command(f"alm_proxies.cli.{module}:{verb}", name=verb, help=sentence, sort_key=position)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot spell is no reason to fail
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; a user's mistake is one sentence, --debug gives the traceback."""
    debug = "--debug" in arguments
    previous = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        refuse_windows()
        outcome = app()(arguments, exit_on_error=False, print_error=False)
        if outcome is None:  # --help and --version print by themselves
            return 0
        return _print(outcome)
    except CycloptsError as error:
        return _refuse(f"{_sentence(error)} See alm-proxies {_verb(arguments)}--help.", 2)
    except AlmProxiesError as error:
        if debug:
            raise
        return _refuse(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refuse("Interrupted. What was done is kept: the same command goes on from there.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{place}{error.strerror or error}. Check the path, its permissions and the space left.", 3)
    except MemoryError:
        return _refuse("There was not enough memory. Try a smaller part of the data (--limit), or more memory.", 3)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _print(outcome: Outcome) -> int:
    if outcome.as_json:
        print(json.dumps(outcome.data, ensure_ascii=False, allow_nan=False), flush=True)
    else:
        print(outcome.line, flush=True)
    return outcome.exit_code


def _refuse(sentence: str, code: int) -> int:
    print(f"alm-proxies: {sentence}", file=sys.stderr, flush=True)
    return code


def _sentence(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _verb(arguments: list[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in _VERBS else ""


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt

"""The last sentence of a command that does not end well: interrupted, or by an error that nobody foresaw."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130
DEFECT = 70
"""Exit code of an unexpected error: EX_SOFTWARE of sysexits."""
SENTENCE = "Interrupted. Finished work is kept: run the same command again to continue."


def defect(error: BaseException, *, debug: bool) -> int:
    """Report an unexpected error as a defect, with its traceback if `debug`; returns its exit code."""
    if debug:
        import traceback

        traceback.print_exception(error)
    from alm_proxies.printable import printable

    place = ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "alm_proxies" in name:
            place = f" ({os.path.basename(name)}, line {trace.tb_lineno})"  # noqa: PTH119 - pathlib is not loaded yet
        trace = trace.tb_next
    words = printable(f"{type(error).__name__}: {error}"[:300]).rstrip(".")
    again = "Please report it." if debug else "Please report it, with the traceback that --debug shows."
    refuse(f"{words}{place}. This is a defect of alm-proxies. {again}")
    return DEFECT


def refuse(sentence: str) -> None:
    """Print one sentence on stderr, without secrets of addresses in it."""
    from alm_proxies.uris import redacted

    print(f"alm-proxies: {redacted(sentence)}", file=sys.stderr, flush=True)


def end_now() -> None:
    """End the process at once; files are always written whole or not at all."""
    try:
        drop_notes()
    finally:
        os.write(2, f"alm-proxies: {SENTENCE}\n".encode())
        os._exit(INTERRUPTED)


def drop_notes() -> None:
    """Remove the notes on what runs that an interrupted process would leave behind."""
    drop = getattr(sys.modules.get("alm_proxies.progress"), "drop_notes", None)  # nothing is imported for this
    if drop is not None:
        drop()

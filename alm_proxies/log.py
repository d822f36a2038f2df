"""The logger `alm_proxies`, and a file that it writes to: no keys in it, nothing that steers a terminal."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alm_proxies.errors import OutputError, SettingsError
from alm_proxies.printable import printable
from alm_proxies.uris import redacted, remote_of

LOG = logging.getLogger("alm_proxies")

SHORTEST_SECRET = 6
"""Keys shorter than this ("none", "EMPTY") are no secrets, and could be words of an answer."""
_NAMED_LIKE_A_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_BEARER = re.compile(r"(?i)(bearer\s+|://[^/\s:@]+:)[^\s@]+")
_START = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")
_secrets: set[str] = set()


def keep_secret(*keys: str) -> None:
    """Never write these keys to a log; too short ones are no secrets."""
    _secrets.update(key for key in keys if len(key) >= SHORTEST_SECRET)


@contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """A context in which all log messages are also appended to a file; nothing is written if `path` is None."""
    if path is None:
        yield
        return
    keep_secret(*(value for name, value in os.environ.items() if _NAMED_LIKE_A_SECRET.search(name)))
    handler = _opened(path)
    handler.setFormatter(_Lines())
    before = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.setLevel(before)
        LOG.removeHandler(handler)
        handler.close()


class _Lines(logging.Formatter):
    """A time in UTC, the level, the message; what follows, such as a traceback, is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as lines of which each is printable, without keys."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        for secret in _secrets:
            text = text.replace(secret, "***")
        text = redacted(_BEARER.sub(r"\1***", text))
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        lines = "\n    ".join(printable(line) for line in text.split("\n"))
        return f"{at} {record.levelname.lower()}: {lines}"


def _opened(path: Path) -> logging.FileHandler:
    """The file, opened at its end; one that holds something else than such a log is refused."""
    if (uri := remote_of(path)) is not None:
        raise SettingsError("a log is not written to an address", where=uri, fix="Name a file on this machine.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as stream:
                start = stream.read(22).decode("utf-8", "replace")
            if not _START.match(start):
                fix = "Name a new file, or an earlier log."
                raise SettingsError("is not a log of alm-proxies and is left as it is", where=str(path), fix=fix)
        return logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        fix = "Name a file in a folder that you may write to."
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path), fix=fix) from error

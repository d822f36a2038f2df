"""A server's API key: read from the environment, and removed from everything that the server sends back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

from alm_proxies.engines.faults import FaultError
from alm_proxies.errors import SettingsError
from alm_proxies.log import SHORTEST_SECRET, keep_secret


class ApiKey:
    """The value of the environment variable `variable`; None stands for a server without a key."""

    def __init__(self, variable: str | None) -> None:
        self._key = "" if variable is None else _read(variable)
        secret = len(self._key) >= SHORTEST_SECRET
        self._secrets = tuple({self._key, quote(self._key, safe="")}) if secret else ()
        keep_secret(*self._secrets)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP header with the key; empty without a key."""
        return {"authorization": f"Bearer {self._key}"} if self._key else {}

    def redact(self, text: str) -> str:
        """The text without the key, spelled plainly or percent-encoded."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @contextmanager
    def redacting_faults(self) -> Iterator[None]:
        """A context in which the messages of faults are redacted."""
        try:
            yield
        except FaultError as fault:
            fault.failure = replace(fault.failure, message=self.redact(fault.failure.message))
            raise


def _read(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SettingsError(
            f"serve.key_from names {variable}, which is not set",
            fix=f"Set it: export {variable}=...",
        )
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(
            f"serve.key_from names {variable}, which contains characters that are not allowed in a key",
            fix="Set it again, as one line of ASCII characters.",
        )
    return key

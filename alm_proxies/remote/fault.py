"""The error of a remote file that cannot be fetched, and what the systems that fetch it have in common."""

from __future__ import annotations

import time
from dataclasses import dataclass

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.uris import SCHEMES, has_secret, scheme_of

MOST_BYTES = 2 * 2**30
"""The largest remote file that is fetched."""
CONNECT_SECONDS = 10.0
STALL_SECONDS = 20.0
"""The longest wait for the next bytes of a file."""
SECONDS = 120.0
"""The time in which a file has to arrive, with all tries; large files get a second more for every million bytes."""
TRIES = 4
SECRET_FIX = (
    "Leave them out of the address, and give them where the store's own tools look: the environment (AWS_ACCESS_KEY_ID "
    "...), a profile, or ~/.netrc for https."
)


class FetchError(InputError):
    """A remote file cannot be fetched; `kind` is the kind of the finding, `passes` whether another try may help."""

    def __init__(
        self, kind: str, message: str, *, where: str, fix: str = "", passes: bool = False, after: float = 0.0
    ) -> None:
        super().__init__(message, where=where, fix=fix)
        self.kind = kind
        self.passes = passes
        self.after = after
        """Seconds that the server asks to wait."""


@dataclass(frozen=True, slots=True)
class State:
    """What a store states about a file without sending it."""

    mark: str
    """Its ETag or another mark of its content; empty if the store has none."""
    size: int | None
    changed: str
    """When it was changed, as the store writes it; empty if the store does not state it."""

    @property
    def known(self) -> str | None:
        """What differs when the content differs; None if the store does not state it."""
        if self.mark:
            return f"{self.mark} {self.size}"
        return f"{self.size} {self.changed}" if self.size is not None and self.changed else None


class Deadline:
    """The end of the time for a file."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.reason = ""
        """Why the first try failed; empty before it has."""
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left; never below a hundredth."""
        return max(0.01, self._ends - time.monotonic())

    def allow(self, size: int | None) -> None:
        """More time for a file of a known size."""
        more = min(size or 0, MOST_BYTES) / 1e6
        self.seconds += more
        self._ends += more


def refuse_address(uri: str) -> None:
    """Raise for an address that cannot be read, or that has a secret in it."""
    if scheme_of(uri) not in SCHEMES:
        fix = f"Known are: {', '.join(f'{scheme}://' for scheme in SCHEMES)}. Fetch it to this machine."
        raise FetchError("remote_audio", f"addresses with {scheme_of(uri)}:// cannot be read", where=uri, fix=fix)
    if has_secret(uri):
        raise FetchError("address_with_secret", "has a password, a key or a signature in it", where=uri, fix=SECRET_FIX)


def refuse_secret(uri: str) -> None:
    """Raise for an address with a secret in settings, which are written into the records of a run."""
    if has_secret(uri):
        raise SettingsError("has a password, a key or a signature in it", where=uri, fix=SECRET_FIX)


def too_large(uri: str, size: int) -> FetchError:
    """The error for a file above the limit."""
    message = f"has {size:,} bytes or more, the limit is {MOST_BYTES:,}"
    return FetchError("not_fetched", message, where=uri, fix="Cut it into shorter recordings.")


def gone(uri: str) -> FetchError:
    """The error for a file that is not there."""
    return FetchError("missing", "there is no such file", where=uri, fix="Check the address.")


def denied(uri: str, fix: str) -> FetchError:
    """The error for a file that may not be read."""
    return FetchError("not_fetched", "access is denied", where=uri, fix=fix)


def broken(uri: str, message: str, fix: str = "", *, after: float = 0.0) -> FetchError:
    """The error for something that another try may overcome."""
    fix = fix or "Check the network and the address, then run it again."
    return FetchError("not_fetched", message, where=uri, fix=fix, passes=True, after=after)


def out_of_time(uri: str, deadline: Deadline) -> FetchError:
    """The error for a file that did not arrive in time, with why the first try failed."""
    reason = f" ({deadline.reason})" if deadline.reason else ""
    return broken(uri, f"did not arrive within {deadline.seconds:.0f} s{reason}")


class NoRoomError(Exception):
    """What arrives cannot be written: the disk of the cache is full, or the cache cannot be used."""

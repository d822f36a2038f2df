"""The command cache: show what is kept on this machine, trim and clear it."""

from __future__ import annotations

from typing import Literal

from alm_proxies.cache import AT_MOST, Kept, bytes_of, cache_folder, contents, limit, trim
from alm_proxies.cache import clear as clear_kinds
from alm_proxies.cli.outcome import Common, Outcome
from alm_proxies.errors import SettingsError
from alm_proxies.printable import counted

_COMMON = Common()
_HOLDS = {
    "abilities": "server abilities",
    "features": "features",
    "audio": "remote recordings",
    "digests": "digests of recordings on this machine",
}


def cache(
    *,
    clear: Literal["abilities", "features", "audio", "digests", "all"] | None = None,
    at_most: str | None = None,
    common: Common = _COMMON,
) -> Outcome:
    """Show what the cache holds: server abilities, features, remote recordings, digests of recordings; or clear it.

    Everything in it can be computed or fetched again. Once a day a command that writes into it removes what was not
    used for the longest time, until it has 50 GB: set the variable ALM_PROXIES_CACHE_AT_MOST to another size, or to
    unlimited.

    Parameters
    ----------
    clear
        Remove what is cached of this kind, or all.
    at_most
        Remove what was not used for the longest time, until the rest has at most this size, such as 20GB or 500MB.
    """
    if clear is not None and at_most is not None:
        raise SettingsError("--clear and --at-most are two ways to remove something", fix="Give one of them.")
    most = limit()  # first: what it refuses is said before anything is removed
    if at_most is not None:
        listed = trim(bytes_of(at_most, "--at-most"))
    else:
        listed = contents() if clear is None else clear_kinds(None if clear == "all" else clear)
    shown = clear is None and at_most is None
    lines = [_line(kept) for kept in listed if shown or kept.files]
    if shown:
        kept_to = "not trimmed unasked" if most is None else f"trimmed to {_size(most)} once a day"
        lines.append(f"{kept_to} ({AT_MOST})")
    total = counted(sum(kept.files for kept in listed), "file")
    lines.append(f"{total} {'in' if shown else 'removed from'} {cache_folder()}")
    data = {kept.kind: {"files": kept.files, "bytes": kept.bytes, "folder": str(kept.folder)} for kept in listed}
    return Outcome("\n".join(lines), {"folder": str(cache_folder()), "limit": most, "kinds": data}, as_json=common.json)


def _line(kept: Kept) -> str:
    return f"{kept.kind}: {_HOLDS[kept.kind]}, {counted(kept.files, 'file')}, {_size(kept.bytes)}"


def _size(count: int) -> str:
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return counted(size, "byte") if units[0] == "bytes" else f"{size:.1f} {units[0]}"

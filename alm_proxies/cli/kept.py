"""The command cache: show what is kept on this machine, and clear it."""

from __future__ import annotations

from typing import Literal

from alm_proxies.cache import Kept, cache_folder, contents
from alm_proxies.cache import clear as clear_kinds
from alm_proxies.cli.outcome import Common, Outcome
from alm_proxies.printable import counted

_COMMON = Common()
_HOLDS = {
    "abilities": "server abilities",
    "features": "features",
    "audio": "remote recordings",
    "digests": "digests of recordings on this machine",
}


def cache(
    *, clear: Literal["abilities", "features", "audio", "digests", "all"] | None = None, common: Common = _COMMON
) -> Outcome:
    """Show what the cache holds: server abilities, features, remote recordings, digests of recordings; or clear it.

    Everything in it can be computed or fetched again.

    Parameters
    ----------
    clear
        Remove what is cached of this kind, or all.
    """
    listed = contents() if clear is None else clear_kinds(None if clear == "all" else clear)
    lines = [_line(kept) for kept in listed if clear is None or kept.files]
    if clear is not None:
        lines.append(f"{counted(sum(kept.files for kept in listed), 'file')} removed from {cache_folder()}")
    else:
        lines.append(f"{counted(sum(kept.files for kept in listed), 'file')} in {cache_folder()}")
    data = {kept.kind: {"files": kept.files, "bytes": kept.bytes, "folder": str(kept.folder)} for kept in listed}
    return Outcome("\n".join(lines), {"folder": str(cache_folder()), "kinds": data}, as_json=common.json)


def _line(kept: Kept) -> str:
    return f"{kept.kind}: {_HOLDS[kept.kind]}, {counted(kept.files, 'file')}, {_size(kept.bytes)}"


def _size(count: int) -> str:
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return counted(size, "byte") if units[0] == "bytes" else f"{size:.1f} {units[0]}"

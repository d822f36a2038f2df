"""Files in object stores (s3, gs, az) through fsspec, asked for in blocks, each with a limit of time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from alm_proxies.errors import need
from alm_proxies.printable import counted
from alm_proxies.remote.fault import (
    CONNECT_SECONDS,
    MOST_BYTES,
    STALL_SECONDS,
    Deadline,
    FetchError,
    State,
    broken,
    denied,
    gone,
    out_of_time,
    too_large,
)
from alm_proxies.uris import scheme_of

PACKAGES = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "gcs": ("gcsfs", "gs"),
    "az": ("adlfs", "az"),
    "abfs": ("adlfs", "az"),
    "abfss": ("adlfs", "az"),
}
"""The package that reads a scheme, and the extra that installs it."""
_BLOCK = 16 * 2**20
_CREDENTIALS = {
    "s3": "Give credentials that may read it, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile; for a "
    "public bucket set FSSPEC_S3_ANON=true.",
    "gs": "Give credentials that may read it: GOOGLE_APPLICATION_CREDENTIALS or gcloud auth application-default login.",
    "az": "Give credentials that may read it, such as AZURE_STORAGE_CONNECTION_STRING.",
}
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound")
_MARKS = ("ETag", "etag", "md5Hash", "generation")
_TIMES = ("LastModified", "last_modified", "mtime", "updated")
_systems: dict[tuple[int, str, str], Any] = {}
_alone = threading.Lock()


def state(uri: str, deadline: Deadline) -> State:
    """What the store states about a file."""
    system, path = _system(uri)
    return _state(uri, _ask(uri, deadline, system, system._info, path))


def download(uri: str, sink: Callable[[bytes], None], known: State | None, deadline: Deadline) -> State | None:
    """Give the content to `sink`, and what the store states about it; None if it is still that of `known`."""
    system, path = _system(uri)
    stated = _state(uri, _ask(uri, deadline, system, system._info, path))
    if known is not None and stated.known == known.known:
        return None
    size = stated.size or 0
    if size > MOST_BYTES:
        raise too_large(uri, size)
    deadline.allow(size)
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        block = _ask(uri, deadline, system, system._cat_file, path, start=start, end=end)
        if len(block) != end - start:
            raise broken(uri, f"{counted(end - start, 'byte was', 'bytes were')} asked for and {len(block):,} arrived")
        sink(block)
    if size > _BLOCK and _state(uri, _ask(uri, deadline, system, system._info, path)).known != stated.known:
        raise broken(uri, "it was changed while it was read")
    return stated


def listed(uri: str, deadline: Deadline) -> list[str]:
    """The paths of the files below an address, relative to it."""
    system, path = _system(uri.rstrip("/") + "/")
    names: list[str] = _ask(uri, deadline, system, system._find, path.rstrip("/"))
    base = path.rstrip("/") + "/"
    return sorted(name.removeprefix(base) for name in names if name.startswith(base))


def need_packages(uris: Iterable[str]) -> None:
    """Raise if a package is missing that is needed for these addresses, naming the extra."""
    for scheme in sorted({scheme_of(uri) for uri in uris} & set(PACKAGES)):
        need(*PACKAGES[scheme])


def _system(uri: str) -> tuple[Any, str]:
    """The file system of an address, one for all threads, and the path in it."""
    scheme = scheme_of(uri)
    uri = scheme + uri[len(scheme) :]  # fsspec knows schemes in lower case only
    need(*PACKAGES[scheme])
    import fsspec
    from fsspec.dircache import DirCache

    kind = fsspec.get_filesystem_class(scheme)
    options = kind._get_kwargs_from_urls(uri)
    key = (os.getpid(), scheme, repr(sorted(options.items())))
    with _alone:
        if key not in _systems:
            if scheme == "s3":
                seconds = {"connect_timeout": CONNECT_SECONDS, "read_timeout": STALL_SECONDS}
                options["config_kwargs"] = {**seconds, "retries": {"total_max_attempts": 1}}
            _systems[key] = kind(**options, skip_instance_cache=True)
            _systems[key].retries = 1  # tried again by whoever asks, within a limit of time
            _systems[key].dircache = DirCache(use_listings_cache=False)  # what was listed may have changed since
    return _systems[key], kind._strip_protocol(uri)


def _ask(uri: str, deadline: Deadline, system: Any, question: Callable[..., Any], *words: Any, **more: Any) -> Any:
    from fsspec.asyn import sync

    try:
        return sync(system.loop, question, *words, timeout=deadline.left, **more)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise gone(uri) from None
    except PermissionError:
        raise denied(uri, _credentials(uri)) from None
    except TimeoutError:
        raise out_of_time(uri, deadline) from None
    except Exception as error:  # packages of many makers; what they say may hold a key
        name = type(error).__name__
        if name in _NO_CREDENTIALS:
            raise FetchError("not_fetched", "there are no credentials", where=uri, fix=_credentials(uri)) from None
        if "Connect" in name:
            raise broken(uri, "no server answers") from None
        if isinstance(error, ValueError):
            raise FetchError("not_fetched", "is not an address of this store", where=uri, fix="Check it.") from None
        raise broken(uri, f"the store does not give it ({name})") from None


def _state(uri: str, info: dict[str, Any]) -> State:
    if info.get("type") == "directory":
        raise gone(uri)
    mark = next((str(info[name]).strip('"') for name in _MARKS if info.get(name)), "")
    changed = next((str(info[name]) for name in _TIMES if info.get(name)), "")
    size = info.get("size")
    return State(mark, int(size) if size is not None else None, changed)


def _credentials(uri: str) -> str:
    return _CREDENTIALS[PACKAGES[scheme_of(uri)][1]]

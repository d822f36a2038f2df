"""Remote tables while they are read: copies in a private folder that is removed afterwards; they are never cached."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from alm_proxies.errors import AlmProxiesError, InputError, OutputError
from alm_proxies.printable import in_shell
from alm_proxies.remote.buckets import need_packages
from alm_proxies.remote.copies import save_copy, states_of
from alm_proxies.remote.fault import FetchError, NoRoomError, gone, refuse_secret
from alm_proxies.uris import name_of, parent_of, remote_of


class AtHand:
    """Copies of remote files under the names that they have elsewhere."""

    def __init__(self, copies: dict[str, Path]) -> None:
        self._copies = copies
        self._folders = {str(path.parent): parent_of(uri) for uri, path in copies.items()}

    def path(self, place: str | os.PathLike[str]) -> Path:
        """The copy of what is remote; any other path unchanged."""
        uri = remote_of(place)
        return Path(place) if uri is None else self._copies[uri]

    def named(self, text: str) -> str:
        """A text with the addresses in place of the copies' paths."""
        for folder in sorted(self._folders, key=len, reverse=True):  # /1 is the beginning of /10
            text = text.replace(folder, self._folders[folder])
        return text


@contextmanager
def at_hand(places: Iterable[str | os.PathLike[str]]) -> Iterator[AtHand]:
    """Copies of those places that are remote, for as long as they are read; errors name the addresses."""
    uris = list(dict.fromkeys(uri for place in places if (uri := remote_of(place)) is not None))
    for uri in uris:
        refuse_secret(uri)
    need_packages(uris)
    with ExitStack() as stack:
        copies: dict[str, Path] = {}
        if uris:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="alm-proxies-")))
            for number, uri in enumerate(uris):
                copies[uri] = folder / f"{number}" / (name_of(uri) or "table")
                copies[uri].parent.mkdir()
                try:
                    save_copy(uri, copies[uri])
                except NoRoomError as error:
                    fix = "Free some space there, or set TMPDIR to a folder on a larger disk."
                    raise OutputError(f"cannot be copied into {folder}: {error}", where=uri, fix=fix) from None
        hand = AtHand(copies)
        try:
            yield hand
        except AlmProxiesError as error:
            error.message = hand.named(error.message)
            error.where = hand.named(error.where) if error.where else error.where
            error.fix = hand.named(error.fix) if error.fix else error.fix
            raise


def is_folder(uri: str) -> bool:
    """Whether an address may be that of a folder: its last name has no ending such as .parquet."""
    return not PurePosixPath(name_of(uri)).suffix and "?" not in uri


def table_in(place: Path, table: str, names: Sequence[str] = ()) -> Path:
    """The file of a table in a folder of results, under one of some names or its usual one; another path unchanged."""
    if not place.is_dir():
        return place
    usual = f"{table}.parquet"
    file = next((place / name for name in (*names, usual) if (place / name).is_file()), None)
    if file is None and table in ("votes", "labels"):
        if table == "votes" and any(place.glob("ledger*.sqlite")):
            fix = "annotate writes it when it ends: run the same annotate command again."
            if any(place.glob("votes.*-of-*.parquet")):
                command = f"alm-proxies merge {in_shell(place)} -o FOLDER"
                fix = f"It has those of shards: {command} writes them as one, in FOLDER."
        else:
            fix = f"Name a {table} file, or a folder with one."
        raise InputError(f"has no {usual}", where=str(place), fix=fix)
    return file or place


def refuse_elsewhere(places: Iterable[str | os.PathLike[str]]) -> None:
    """Raise for an address where a folder, or a file and its neighbours, are read: only single files are fetched."""
    for place in places:
        if (uri := remote_of(place)) is not None:
            raise InputError("must be on this machine", where=uri, fix="Copy it here, and name the copy.")


def there(uris: Iterable[str]) -> list[str]:
    """Those of the files that there are; raises FetchError where the store cannot be asked."""
    existing = []
    listed = list(uris)
    for uri in listed:
        refuse_secret(uri)
    need_packages(listed)
    for uri, state in zip(listed, states_of(listed), strict=True):
        if isinstance(state, FetchError):
            raise state
        if state is not None:
            existing.append(uri)
    if not existing:
        raise gone(listed[0])
    return existing

"""Where the recordings of a task are: no part of its digest, but results that state it are made again after a move."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import polars as pl

from alm_proxies.about import About, about_of
from alm_proxies.beside import place_of, without_places
from alm_proxies.content import ContentDigest
from alm_proxies.errors import TableError
from alm_proxies.files import digest_file, digest_of, open_file
from alm_proxies.pipeline.perform import Task
from alm_proxies.table_files import read_parquet
from alm_proxies.uris import remote_of

MOVED = "runs again because the corpus or its recordings are in another place"
"""The reason of a task whose result has the same content as before, but states other places."""

_FOOTER_END = 8  # its length in four bytes, then the format's name
_READ_AT_ONCE = 2**22


def places_of(task: Task) -> dict[str, str]:
    """The paths that a result with places comes from: those in its blocks, and the roots in its utterances table."""
    if not task.declared.states_places:
        return {}
    _, blocks = task.typed()
    places = {
        f"{number}.{name}": remote_of(value) or os.path.normpath(value.absolute())
        for number, block in enumerate(blocks)
        for name, value in block
        if isinstance(value, Path)
    }
    for path in map(Path, task.inputs.get("utterances", ())):
        about = _about(path)
        places |= {f"root of {corpus}": root for corpus, root in about.roots.items()}
        places |= {f"recordings in {seen}": place_of(path, seen) for seen in about.beside.values()}
    return places


def digest_without_origin(path: Path) -> str:
    """The digest of a file's content; of a table, without its places and the digests of what it was made from.

    So it is the same after a move, and where a stage that ran again gave the same table.
    """
    about = _about(path)
    if about.made_by is None and not about.roots and not about.beside:
        return digest_file(path)
    rest = about.plain("roots", "beside")
    for name in ("inputs", "settings_digest") if about.made_by is not None else ():
        del rest["made_by"][name]
    with open_file(path) as stream:
        schema = {name: repr(dtype) for name, dtype in pl.read_parquet_schema(stream).items()}
    own = "." in about.beside.values()  # recordings in the folder of the table, which states their paths
    rows = ContentDigest(("utterance_id",)) if own else None
    if rows is not None:
        rows.update(without_places(read_parquet(path), about))
    return digest_of([_rows_digest(path) if rows is None else rows.hexdigest({}), json.dumps(schema), rest])


def _about(path: Path) -> About:
    if path.suffix != ".parquet" or not path.is_file():
        return About()
    try:
        return about_of(path)
    except TableError:  # the stage that reads it says what is wrong
        return About()


def _rows_digest(path: Path) -> str:
    """The digest of a Parquet file without its footer, which has the metadata."""
    with open_file(path) as stream:
        end = stream.seek(0, 2)
        stream.seek(end - _FOOTER_END)
        left = end - _FOOTER_END - int.from_bytes(stream.read(4), "little")
        stream.seek(0)
        digest = hashlib.sha256()
        while left > 0 and (content := stream.read(min(left, _READ_AT_ONCE))):
            digest.update(content)
            left -= len(content)
    return digest.hexdigest()

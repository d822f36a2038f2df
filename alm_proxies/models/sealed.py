"""The digests of a trained folder's files: a changed file, and one of another training, is refused at loading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alm_proxies.errors import InputError
from alm_proxies.files import digest_file, digest_of

_DIGEST, _FILES = "digest", "files"


def sealed(folder: Path, stated: Mapping[str, Any]) -> dict[str, Any]:
    """A model's metadata with the digests of the files in its folder, and of the metadata itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): digest_file(path) for path in paths}
    whole = {**stated, _FILES: files}
    return whole | {_DIGEST: _digest(whole)}


def refuse_edited(stated: Mapping[str, Any], where: Path) -> None:
    """Raise for metadata that were changed since they were written; earlier versions wrote no digest."""
    if stated.get(_DIGEST) and stated[_DIGEST] != _digest(stated):
        raise damaged(f"{where.name} was changed after the training", where)


def refuse_changed(folder: Path, files: Mapping[str, str]) -> None:
    """Raise for a file of a model that is missing, changed, or of another training."""
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise damaged(f"{name} is missing", folder)
        if digest_file(folder / name) != digest:
            raise damaged(f"{name} is not the file that the training wrote", folder)


def damaged(reason: str, where: str | Path) -> InputError:
    """The error for a trained folder that cannot be loaded."""
    fix = "Copy the whole folder again, or train again."
    return InputError(f"the model's files are damaged, or not all of one model ({reason})", where=str(where), fix=fix)


def _digest(stated: Mapping[str, Any]) -> str:
    return digest_of(json.dumps({key: value for key, value in stated.items() if key != _DIGEST}, sort_keys=True))

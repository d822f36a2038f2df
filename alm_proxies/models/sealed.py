"""The digests of a trained folder's files: a changed file, and one of another training, is refused at loading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from alm_proxies.errors import InputError
from alm_proxies.files import digest_file, digest_of, read_text

_DIGEST, _FILES = "digest", "files"
_ADAPTER, _BASE = "adapter_config.json", "base_model_name_or_path"


def sealed(folder: Path, stated: Mapping[str, Any]) -> dict[str, Any]:
    """A model's metadata with the digests of the files in its folder, and of the metadata itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): _content(path) for path in paths}
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
        if digest not in (digest_file(folder / name), _content(folder / name)):
            raise damaged(f"{name} is not the file that the training wrote", folder)


def damaged(reason: str, where: str | Path) -> InputError:
    """The error for a trained folder that cannot be loaded."""
    fix = "Copy the whole folder again, or train again."
    return InputError(f"the model's files are damaged, or not all of one model ({reason})", where=str(where), fix=fix)


def _content(path: Path) -> str:
    """The digest of a file; of an adapter's configuration without the place of its base model, which may be moved."""
    if path.name == _ADAPTER:
        with suppress(ValueError, AttributeError):
            return digest_of({key: value for key, value in json.loads(read_text(path)).items() if key != _BASE})
    return digest_file(path)


def _digest(stated: Mapping[str, Any]) -> str:
    return digest_of(json.dumps({key: value for key, value in stated.items() if key != _DIGEST}, sort_keys=True))

"""Finished trainings of a cross-fit, kept in a folder until all are done: an interrupted cross-fit takes them again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from alm_proxies import __version__
from alm_proxies.errors import InputError
from alm_proxies.files import canonical_json, whole
from alm_proxies.training.heads import Array, HeadModel

_OURS = re.compile(r"[0-9a-f]{16}-(pair|fold)-\d+-\d+\.npz")


@dataclass(frozen=True, slots=True)
class KeptFits:
    """The trainings that one digest of all they depend on stands for; without a folder nothing is kept."""

    folder: Path | None
    digest: str

    @classmethod
    def of(cls, folder: Path | None, arrays: Mapping[str, NDArray[Any]], facts: object) -> Self:
        """Those of a cross-fit of these arrays, with these facts: settings, labels and seed."""
        digest = hashlib.sha256(canonical_json([__version__, np.__version__, facts]).encode())
        for name, array in arrays.items() if folder is not None else ():
            digest.update(canonical_json([name, str(array.dtype), array.shape]).encode())
            digest.update(np.ascontiguousarray(array).data)
        return cls(folder, digest.hexdigest()[:16])

    def curves(self, name: str, compute: Callable[[], dict[int, Array]]) -> dict[int, Array]:
        """The predictions by epoch for each of a pair of folds: those that are kept, or computed and kept now."""
        if self.folder is None:
            return compute()
        path = self._path(name)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return {int(fold): kept[fold] for fold in kept.files}
        except (OSError, BadZipFile, KeyError, ValueError, TypeError, EOFError):  # not there, or not whole
            curves = compute()
        with whole(path) as part, part.open("wb") as file:
            np.savez(file, **{str(fold): curve for fold, curve in curves.items()})  # type: ignore[arg-type]  # as in heads
        return curves

    def model(self, name: str, compute: Callable[[], HeadModel]) -> HeadModel:
        """The model of a fold: the one that is kept, or computed and kept now."""
        if self.folder is None:
            return compute()
        path = self._path(name)
        if path.is_file():
            try:
                return HeadModel.load(path)
            except InputError:  # it is not whole
                pass
        model = compute()
        model.save(path)
        return model

    def count(self) -> int:
        """The number of trainings that are kept."""
        return 0 if self.folder is None else sum(1 for _ in self.folder.glob(f"{self.digest}-*.npz"))

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.digest}-{name}.npz"


def forget(folder: Path) -> None:
    """Remove all trainings that are kept in a folder, of this cross-fit and of others; nothing else in it."""
    for path in folder.glob("*.npz"):
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # such as: it is not empty
        folder.rmdir()

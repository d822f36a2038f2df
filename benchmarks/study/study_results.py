"""Results kept cell by cell: predictions in a file each, then one line of JSON; what is done is not run again."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from study_cells import write_array
from study_votes import Array

from alm_proxies.errors import InputError


class Results:
    """The lines of `cells.jsonl` in a folder, and the predictions beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "cells.jsonl"

    def lines(self) -> dict[str, dict[str, Any]]:
        """What is known of every cell that is done; a line that was cut off is as if it had not been written."""
        lines: dict[str, dict[str, Any]] = {}
        if not self.path.exists():
            return lines
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if self._place(line["key"]).exists():
                lines[line["key"]] = line
        return lines

    def predictions(self, key: str) -> Array:
        """The distribution of every clip."""
        kept: Array = np.load(self._place(key)).astype(np.float64)
        return kept

    def add(self, line: dict[str, Any], predictions: Array) -> None:
        """Keep a cell: its predictions first, so that a line always has them; the line in one write, on disk."""
        write_array(self._place(line["key"]), predictions.astype(np.float32))
        with self.path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            broken = False
            if size:
                file.seek(size - 1)
                broken = file.read(1) != b"\n"
            file.write((("\n" if broken else "") + json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def alone(self) -> Generator[None, None, None]:
        """One process at a time in this folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                fix = "Wait for it, or use another folder."
                raise InputError("another process runs cells here", where=str(self.folder), fix=fix) from error
            yield

    def _place(self, key: str) -> Path:
        return self.folder / "predictions" / f"{key}.npy"

"""The files of a stage's result that are no outputs of their own, such as recordings: recorded, and compared later.

The declared outputs are few and compared by content. Of the others there may be thousands, so a file whose size and
time are as recorded counts as unchanged without being read; another is read, so that copying a folder changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from alm_proxies.files import could_not_read, digest_file, digest_of
from alm_proxies.pipeline.perform import FINDINGS, RUNNING
from alm_proxies.stage import Stage

MARKER = "stage.json"
"""File in the folder of a finished stage: its record."""
Files = Mapping[str, list[Any]]
"""By path in the folder: size in bytes, time of the last change in nanoseconds, digest of the content."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The recorded files as they are now."""

    now: dict[str, list[Any]]
    """Those that exist; a digest is computed only where size or time differ from the record. Of those that are of use
    only for resuming, the record."""
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    unresumable: tuple[str, ...] = ()
    """Those that are missing or changed, but of use only for resuming."""

    @property
    def lost(self) -> tuple[str, ...]:
        """Those that are missing or have another content."""
        return (*self.missing, *self.changed)

    @property
    def reason(self) -> str | None:
        """The lost files in words; None if there are none."""
        for names, one, several in ((self.missing, "is", "are"), (self.changed, "has", "have")):
            if names:
                ending = "missing" if names is self.missing else "changed"
                more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
                return f"{names[0]}{more} {several if more else one} {ending}"
        return None


def files_of(stage: Stage, folder: Path) -> dict[str, list[Any]]:
    """The result files in a folder besides declared outputs: `Stage.contains`, or all if the output is the folder."""
    return {name: _entry(folder / name) for name in sorted(_names(stage, folder))}


def compared(folder: Path, recorded: Files, resumes_from: Sequence[str] = ()) -> Compared:
    """Compare the files in a folder with the record; a finished stage does not need those that it `resumes_from`."""
    now = _now(folder, recorded)
    missing = [name for name in recorded if name not in now]
    changed = [name for name in now if now[name][2] != recorded[name][2]]
    lost = [name for name in (*missing, *changed) if any(Path(name).is_relative_to(place) for place in resumes_from)]
    now |= {name: recorded[name] for name in lost}
    missing, changed = ([name for name in names if name not in lost] for names in (missing, changed))
    return Compared(now, tuple(missing), tuple(changed), tuple(lost))


def _now(folder: Path, recorded: Files) -> dict[str, list[Any]]:
    """The recorded files that exist, as they are."""
    now: dict[str, list[Any]] = {}
    for name, (size, time, digest) in recorded.items():
        path = folder / name
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise could_not_read(path, error) from error
        same = (stat.st_size, stat.st_mtime_ns) == (size, time)
        now[name] = [size, time, digest] if same else _entry(path)
    return now


def digest_of_files(files: Files) -> str:
    """A digest of the names and contents."""
    return digest_of([[name, digest] for name, (_, _, digest) in sorted(files.items())])


def _names(stage: Stage, folder: Path) -> Iterator[str]:
    patterns = ("**/*",) if "." in stage.writes.values() else stage.contains
    for name in {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}:
        working = any(fnmatchcase(name, pattern) for pattern in stage.working)
        if not working and name not in (MARKER, FINDINGS, RUNNING) and (folder / name).is_file():
            yield name


def _entry(path: Path) -> list[Any]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, digest_file(path)]

"""One suite over every format of export in the registry: written whole, the same again, never half, never over."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from alm_proxies.errors import InputError, OutputError
from alm_proxies.plugins import plugins
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.stages.export.stage import CARD, MANIFEST, export
from alm_proxies.tables import Labels, Utterances, Votes

Corpus = tuple[Labels, Utterances, Votes]
FOUND: dict[str, Format] = {name: plugin.load() for name, plugin in plugins("exports").items() if not plugin.origin}
every = pytest.mark.parametrize("name", FOUND)


def settings_of(name: str) -> ExportSettings:
    return FOUND[name].settings(format=name, name="mine")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_suite_holds_every_format_there_is() -> None:
    assert len(FOUND) >= 15
    assert all(kind.name == name and kind.title for name, kind in FOUND.items())


@every
def test_it_is_written_whole_into_a_path_with_spaces_and_other_letters(
    name: str, corpus: Corpus, tmp_path: Path
) -> None:
    folder = tmp_path / "Ausgabe für später" / "日本 export's"
    written = export(corpus[0], corpus[1], folder, settings_of(name), votes=corpus[2])
    assert written.folder == folder
    left_out = sum(count for kind, count in written.findings.counts().items() if kind == "tied_labels")
    assert sum(written.counts.values()) == 30 - left_out
    assert left_out == (1 if FOUND[name].one_label else 0)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["format"] == name
    assert manifest["files"] == {
        str(path.relative_to(folder)): path.lstat().st_size
        for path in folder.rglob("*")
        if not path.is_dir() and path.name != MANIFEST
    }
    assert {str(path.relative_to(folder)) for path in written.files} == set(manifest["files"])
    assert "mine" in (folder / CARD).read_text(encoding="utf-8")
    assert len(manifest["files"]) >= 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@every
def test_the_same_export_again_has_the_same_bytes(name: str, corpus: Corpus, tmp_path: Path) -> None:
    written = export(corpus[0], corpus[1], tmp_path / "out", settings_of(name), votes=corpus[2])
    before = bytes_of(written.folder)
    export(corpus[0], corpus[1], tmp_path / "out", settings_of(name), votes=corpus[2])
    assert bytes_of(written.folder) == before


@every
def test_a_folder_with_something_else_in_it_is_refused_and_left_as_it_is(
    name: str, corpus: Corpus, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    written = export(corpus[0], corpus[1], folder, settings_of(name))
    (folder / "notes.txt").write_text("mine")
    before = bytes_of(folder)
    with pytest.raises(InputError, match="never overwritten"):
        export(corpus[0], corpus[1], folder, settings_of(name))
    assert bytes_of(folder) == before
    (folder / "notes.txt").unlink()
    changed = written.files[0]
    changed.write_bytes(changed.read_bytes() + b" ")
    with pytest.raises(InputError, match="never overwritten"):
        export(corpus[0], corpus[1], folder, settings_of(name))


@every
@pytest.mark.parametrize("size", [0, 600])
def test_where_the_disk_is_full_nothing_is_left_that_could_be_taken_for_it(
    name: str, size: int, corpus: Corpus, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with pytest.raises(OutputError, match="could not be written"), full_disk(size):
        export(corpus[0], corpus[1], tmp_path / "out", settings_of(name), votes=corpus[2])
    assert list(tmp_path.iterdir()) == []

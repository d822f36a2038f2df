"""One suite over every format of export in the registry: written whole, the same again, never half, never over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

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
@pytest.mark.parametrize("audio", ["reference", "copy"])
def test_damaged_recordings_are_left_out_and_each_is_listed_unless_the_format_is_of_labels_alone(
    name: str, audio: str, corpus: Corpus, tmp_path: Path
) -> None:
    root = Path(corpus[1].about.roots["sim"])
    shutil.copytree(root, tmp_path / "wav")
    utterances = Utterances(
        corpus[1].frame.with_columns(duration=pl.lit(0.3)), corpus[1].about.with_(roots={"sim": str(tmp_path / "wav")})
    )
    files = [tmp_path / "wav" / file for file in utterances.frame["audio"][:5]]
    files[0].write_text("this is text")
    files[1].write_bytes(b"")
    soundfile.write(files[2], np.zeros(0), 16_000)
    files[3].write_bytes(files[3].read_bytes()[:3_000])
    files[4].unlink()
    settings = settings_of(name).model_copy(update={"audio": audio, "ties": "first"})
    written = export(corpus[0], utterances, tmp_path / "out", settings)
    labels_alone = not FOUND[name].needs_audio
    assert sum(written.counts.values()) == (30 if labels_alone else 25)
    found = written.findings.frame.filter(pl.col("kind") != "tied_labels")
    if labels_alone and audio == "reference":
        assert (written.recordings, written.left_out) == (None, 0)
        assert found.select("kind", "severity", "count").rows() == [("no_audio", "warning", 1)]
        assert "1 row is written without a recording" in found["message"][0]
        return
    assert (written.recordings, written.left_out) == (30, 5)
    assert set(found["kind"]) >= {"not_audio", "empty", "truncated", "missing"}
    if not labels_alone:
        lost = found.filter(pl.col("severity") == "problem")["utterance_id"]
        assert sorted(lost) == sorted(utterances.frame["utterance_id"][:5])
    shipped = [path for path in written.folder.rglob("*.wav") if path.is_file()]
    assert all(soundfile.info(str(path)).frames for path in shipped)


@every
@pytest.mark.parametrize("audio", ["reference", "copy", "link"])
def test_recordings_that_no_model_could_use_are_left_out_where_they_are_copied(
    name: str, audio: str, corpus: Corpus, tmp_path: Path
) -> None:
    root = Path(corpus[1].about.roots["sim"])
    shutil.copytree(root, tmp_path / "wav")
    utterances = Utterances(corpus[1].frame, corpus[1].about.with_(roots={"sim": str(tmp_path / "wav")}))
    files = [tmp_path / "wav" / file for file in utterances.frame["audio"][:2]]
    soundfile.write(files[0], np.zeros(16_000), 16_000)
    soundfile.write(files[1], np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    settings = settings_of(name).model_copy(update={"audio": audio, "ties": "first"})
    written = export(corpus[0], utterances, tmp_path / "out", settings)
    kind = FOUND[name]
    lost = written.findings.frame.filter(pl.col("kind").is_in(["silent", "not_finite"]))
    if not (kind.embeds or (audio == "copy" and kind.needs_audio) or (audio == "reference" and kind.beside)):
        copied = audio == "copy"  # by a table of labels, which keeps their items
        assert (written.left_out, lost.height, sum(written.counts.values())) == (2 * copied, 2 * copied, 30)
        return
    assert (written.recordings, written.left_out, sum(written.counts.values())) == (30, 2, 28)
    assert lost.select("utterance_id", "kind").rows() == list(
        zip(utterances.frame["utterance_id"][:2], ["silent", "not_finite"], strict=True)
    )
    assert all(str(file) in where for file, where in zip(files, lost["message"], strict=True))


@every
def test_weights_are_in_its_files_or_a_finding_says_that_they_are_not(
    name: str, corpus: Corpus, tmp_path: Path
) -> None:
    def data(weight: pl.Expr | pl.Series) -> tuple[dict[str, bytes], int]:
        labels = Labels(corpus[0].frame.with_columns(weight=weight), corpus[0].about)
        written = export(labels, corpus[1], tmp_path / "out", settings_of(name))
        files = {place: content for place, content in bytes_of(written.folder).items() if place not in (CARD, MANIFEST)}
        return files, written.findings.counts().get("weights_not_written", 0)

    (even, none), (uneven, stated) = data(pl.lit(1.0)), data(pl.Series(np.linspace(0.2, 3.0, 30)))
    in_files = even != uneven
    assert none == 0
    assert in_files == (stated == 0) or (name == "ms_swift" and in_files)  # some of its files have chats by weight
    assert stated in (0, 29 if FOUND[name].one_label else 30)


@every
@pytest.mark.parametrize("split", ["a/b", "../../../outside", ".."])
def test_a_split_names_no_file_in_another_folder(name: str, split: str, corpus: Corpus, tmp_path: Path) -> None:
    utterances = Utterances.of(corpus[1].frame.with_columns(split=pl.lit(split)), about=corpus[1].about)
    settings = settings_of(name).model_copy(update={"ties": "first"})
    folder = tmp_path / "one" / "two"
    if name in ("csv", "parquet", "jsonl", "croissant", "odyssey", "emo_superb"):
        assert export(corpus[0], utterances, folder, settings).counts == {split: 30}
    else:
        with pytest.raises(InputError, match="the split"):
            export(corpus[0], utterances, folder, settings)
        assert not folder.exists()
    assert {path.name for path in tmp_path.rglob("*") if folder not in path.parents} <= {"one", "two"}


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

"""Exports of recordings at addresses: referred to where that is enough, copied where the format needs a copy."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import soundfile

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.stages.export.stage import export
from alm_proxies.tables import Labels, Utterances, Votes

sys.path.insert(0, str(Path(__file__).parents[2] / "remote"))
from web_server import Web, serving, tone

Corpus = tuple[Labels, Utterances, Votes]


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as served:
        yield served


def remote(corpus: Corpus, web: Web) -> Utterances:
    """The corpus with three recordings at addresses, the last of which is not there."""
    frame = corpus[1].frame.head(3)
    audio = [web.put("ok/0.wav", tone()), web.put("ok/1.wav", tone(300)), web.url("ok/none.wav")]
    return Utterances.of(frame.with_columns(audio=pl.Series(audio)))


def test_a_table_of_labels_refers_to_addresses(corpus: Corpus, web: Web, tmp_path: Path) -> None:
    utterances = remote(corpus, web)
    written = export(corpus[0], utterances, tmp_path / "out", ExportSettings(format="jsonl"))
    lines = [json.loads(line) for path in (tmp_path / "out").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(line["file"] for line in lines) == sorted(utterances.frame["audio"].to_list())
    assert written.findings.frame.filter(pl.col("kind") == "remote_audio")["count"].to_list() == [3]
    assert web.asked == {}


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", ["odyssey", "emo_superb"])
def test_tables_of_file_names_have_addresses_as_they_are(
    name: str, beside: bool, corpus: Corpus, tmp_path: Path
) -> None:
    frame = corpus[1].frame.head(3)
    root = Path(corpus[1].about.roots["sim"])
    audio = [
        "s3://bucket/a/0.wav",
        "s3://bucket/a/1.wav",
        str(root / frame["audio"][2]) if beside else "s3://bucket/2.wav",
    ]
    utterances = Utterances.of(frame.with_columns(audio=pl.Series(audio)))
    written = export(corpus[0], utterances, tmp_path / "out", ExportSettings(format=name))
    (table,) = (path for path in written.files if path.name in ("labels_categorical.csv", "labels_consensus_1.csv"))
    assert pl.read_csv(table)["FileName"].to_list() == audio
    if name == "odyssey":
        assert json.loads((tmp_path / "out" / "config_cat.json").read_text())["wav_dir"] == ""


def test_a_format_with_sound_in_it_gets_copies_of_what_is_there(corpus: Corpus, web: Web, tmp_path: Path) -> None:
    utterances = remote(corpus, web)
    settings = ExportSettings(format="webdataset")
    written = export(corpus[0], utterances, tmp_path / "out", settings)
    sounds = []
    for path in (tmp_path / "out").rglob("*.tar"):
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                if member.name.endswith(".wav"):
                    content = archive.extractfile(member)
                    assert content is not None
                    sounds.append(content.read())
    assert sorted(sounds) == sorted([tone(), tone(300)])
    missing = written.findings.frame.filter(pl.col("kind") == "missing")
    assert missing["count"].to_list() == [1]
    assert "none.wav" in missing["message"][0]
    assert all(soundfile.info(io.BytesIO(sound)).samplerate == 16_000 for sound in sounds)


def test_copies_of_a_corpus_that_has_to_stay_are_not_fetched_for_it(corpus: Corpus, web: Web, tmp_path: Path) -> None:
    utterances = Utterances.of(remote(corpus, web).frame.with_columns(corpus=pl.lit("mine")))
    with pytest.raises(InputError, match="may not be copied"):
        export(corpus[0], utterances, tmp_path / "out", ExportSettings(format="webdataset"))
    assert web.asked == {}


def test_an_export_is_not_written_to_an_address(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="s3://bucket/out: results are not written to addresses"):
        export(corpus[0], corpus[1], "s3://bucket/out")
    assert list(tmp_path.iterdir()) == []

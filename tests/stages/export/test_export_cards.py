"""Cards of exports, and speakers' other names."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.stages.export.stage import export
from alm_proxies.tables import Labels, Utterances, Votes

Corpus = tuple[Labels, Utterances, Votes]


def test_speakers_get_other_names_on_request_and_the_same_ones_every_time(corpus: Corpus, tmp_path: Path) -> None:
    frames = []
    for place in ("one", "two"):
        settings = ExportSettings(format="csv", name="mine", pseudonyms=True, audio="copy", seed=3)
        written = export(corpus[0], corpus[1], tmp_path / place, settings)
        frames.append(pl.read_csv(written.folder / "mine.csv"))
    assert frames[0]["speaker"].equals(frames[1]["speaker"])
    assert frames[0]["speaker"].n_unique() == 10
    text = (tmp_path / "one" / "mine.csv").read_text()
    assert not any(name in text for name in [*corpus[1].frame["speaker"], *corpus[1].frame["audio"]])
    assert not any(name in text for name in corpus[1].frame["utterance_id"])
    referred = ExportSettings(format="csv", pseudonyms=True)
    assert export(corpus[0], corpus[1], tmp_path / "three", referred).findings.counts()["paths_tell"] == 30


@pytest.mark.parametrize("name", ["csv", "huggingface"])
def test_the_card_of_an_export_with_pseudonyms_names_no_utterance_and_no_path(
    name: str, corpus: Corpus, tmp_path: Path
) -> None:
    gone = pl.int_range(pl.len()) < 3
    frame = corpus[1].frame.with_columns(audio=pl.when(gone).then(pl.lit("gone/Anna Smith.wav")).otherwise("audio"))
    settings = ExportSettings(format=name, pseudonyms=True, audio="copy")
    written = export(corpus[0], Utterances.of(frame, about=corpus[1].about), tmp_path / "out", settings)
    assert written.findings.counts()["missing"] == 3
    text = (written.folder / "README.md").read_text(encoding="utf-8")
    assert "missing" in text
    assert not any(word in text for word in ["Anna", str(tmp_path), *frame["utterance_id"], *frame["speaker"]])


def test_the_card_counts_no_speaker_for_items_of_unknown_ones(corpus: Corpus, tmp_path: Path) -> None:
    first = pl.int_range(pl.len()) < 1
    people = corpus[1].frame.with_columns(speaker=pl.when(~first).then("speaker"))
    written = export(corpus[0], Utterances.of(people, about=corpus[1].about), tmp_path, ExportSettings(format="csv"))
    assert "| train | 18 | 6 |" in (written.folder / "README.md").read_text(encoding="utf-8")


def test_the_card_has_the_labels_shares_under_a_heading_of_their_own(corpus: Corpus, tmp_path: Path) -> None:
    folder = export(corpus[0], corpus[1], tmp_path, ExportSettings(format="csv")).folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    sections = {part.split("\n")[0]: part for part in card.split("\n## ")}
    assert "| happy |" in sections["Labels"]
    assert "Ambiguity: " in sections["Labels"]
    assert "Limits" not in sections

"""A vector is computed once for each content of a recording, and means the same wherever it is read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies import cache
from alm_proxies.audio import measured
from alm_proxies.audio import vectors as of_clips
from alm_proxies.audio.clip import Clip, Opened
from alm_proxies.audio.measured import DIGEST, NAMES, measuring
from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.audio.vectors import Compute, Encoding, Floats, Vectors, vectors_of
from alm_proxies.errors import OutputError
from alm_proxies.stages.read.formats.iemocap import IemocapSource
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.formats.tables import TablesSource
from alm_proxies.stages.read.stage import ReadSettings, read
from alm_proxies.tables import About, Finding, Utterances
from tests.stages.read.corpora import iemocap


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    folder = tmp_path / "wav"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", 0.1 * noise.standard_normal(8000), 16_000)
    return folder


def table(wav: Path, corpora: dict[str, list[str]], made: dict[str, Recipe] | None = None) -> Utterances:
    rows = [
        {"utterance_id": f"{corpus}/{Path(name).stem}", "corpus": corpus, "audio": str(wav / name), "recipe": None}
        for corpus, names in corpora.items()
        for name in names
    ]
    rows += [
        {"utterance_id": name, "corpus": name.partition("/")[0], "audio": None, "recipe": recipe.written()}
        for name, recipe in (made or {}).items()
    ]
    return Utterances.of(pl.DataFrame(rows), about=About())


def vectors(utterances: Utterances, folder: Path, stage: str = "listen", *, remarks: bool = True) -> Vectors:
    ids = utterances.frame["utterance_id"].to_list()
    sounds = Sounds(utterances, stage=stage)
    compute = measuring(stage)
    return vectors_of(ids, sounds, compute, width=len(NAMES), digest=DIGEST, folder=folder, remarks=remarks)


def test_vectors_of_a_big_corpus_are_in_a_file_that_goes_with_them_and_are_the_same(
    wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    (wav / "3.wav").write_text("no sound")
    utterances = table(wav, {"toy": ["0.wav", "3.wav", "1.wav"]})
    plain = vectors(utterances, tmp_path / "one")
    monkeypatch.setattr(of_clips, "_ON_DISK", 1)
    on_disk = vectors(utterances, tmp_path / "two")
    assert (type(plain.rows), type(on_disk.rows)) == (np.ndarray, np.memmap)
    np.testing.assert_array_equal(plain.rows, on_disk.rows)
    assert plain.known.tolist() == on_disk.known.tolist() == [True, False, True]
    assert np.isnan(on_disk.rows[1]).all()
    assert not list((tmp_path / "two").iterdir())
    with full_disk(64), pytest.raises(OutputError, match="could not be written"):
        vectors(utterances, tmp_path / "three")


def files(folder: Path) -> int:
    return len(list(folder.rglob("*.parquet")))


def in_cache() -> int:
    return files(cache.cache_folder() / "features")


def test_what_one_command_measured_another_reads_into_the_same_numbers_and_findings(wav: Path, tmp_path: Path) -> None:
    utterances = table(wav, {"toy": ["0.wav", "1.wav"]})
    first = vectors(utterances, tmp_path / "one")
    again = vectors(utterances, tmp_path / "two", "train")
    assert (first.made, again.made) == (2, 0)
    np.testing.assert_array_equal(first.rows, again.rows)
    assert {finding.kind for finding in first.findings} == {"unvoiced"}
    strip = [(finding.kind, finding.message, finding.utterance_id, finding.count) for finding in first.findings]
    assert strip == [(finding.kind, finding.message, finding.utterance_id, finding.count) for finding in again.findings]
    assert {finding.stage for finding in again.findings} == {"train"}
    assert not vectors(utterances, tmp_path / "two", remarks=False).findings
    assert files(tmp_path) == 0
    assert in_cache() == 1


def test_in_one_table_each_corpus_is_kept_where_its_card_says(wav: Path, tmp_path: Path) -> None:
    utterances = table(wav, {"toy": ["0.wav", "1.wav"], "iemocap": ["2.wav"]})
    assert vectors(utterances, tmp_path / "own").made == 3
    assert (files(tmp_path / "own"), in_cache()) == (1, 1)
    assert pl.read_parquet(next((tmp_path / "own").rglob("*.parquet"))).height == 1
    assert vectors(utterances, tmp_path / "own").made == 0
    assert vectors(utterances, tmp_path / "another").made == 1


CARD = '+++\nname = "mine"\ntitle = "M"\nlicence = "L"\nmay_leave = false\nwhy = "so"\nvotes = "one"\n+++\n'


@pytest.mark.parametrize("card", ["in a folder of the user", "of the format"])
def test_a_card_that_only_reading_knows_of_keeps_a_corpus_out_of_the_cache_for_later_stages(
    wav: Path, tmp_path: Path, card: str
) -> None:
    if card == "of the format":
        turn = ("Ses01F_impro01_F000", "ang", ["C-E1:\tAnger;\t()"])
        root = iemocap(tmp_path / "iemocap", {"Ses01F_impro01": [turn]})
        corpus = read([IemocapSource(source=root, corpus="mine")], ReadSettings(taxonomy="happy,sad,angry"))
    else:
        (tmp_path / "mine.md").write_text(CARD)
        (tmp_path / "votes.csv").write_text(f"id,label,audio\n0,happy,{wav / '0.wav'}\n1,sad,{wav / '1.wav'}\n")
        columns = {"utterance_id": "id", "label": "label", "audio": "audio"}
        source = TableSource(source=tmp_path / "votes.csv", corpus="mine", columns=columns)
        corpus = read([source], ReadSettings(taxonomy="happy,sad", cards=tmp_path))
    corpus.write(tmp_path / "read")
    again = read([TablesSource(source=tmp_path / "read", corpus="mine")])
    for utterances in (corpus.utterances, again.utterances):
        assert utterances.about.stays == ("mine",)
        ids = utterances.frame["utterance_id"].to_list()
        assert {Sounds(utterances, stage="listen").kept_as(name) for name in ids} == {None}


def test_a_card_that_only_a_later_stage_knows_of_keeps_a_corpus_out_of_the_cache_there(
    wav: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.md").write_text(CARD)
    utterances = table(wav, {"mine": ["0.wav"]})
    assert Sounds(utterances, stage="balance").kept_as("mine/0") == "mine"
    assert Sounds(utterances, stage="balance", cards=tmp_path).kept_as("mine/0") is None


def test_a_mix_with_a_recording_that_may_not_be_copied_may_not_be_either(wav: Path, tmp_path: Path) -> None:
    made = {
        "toy/free": Recipe(parents=(("toy/0", 0.5), ("toy/1", 0.5)), seed=1),
        "toy/mixed": Recipe(parents=(("toy/0", 0.5), ("iemocap/2", 0.5)), seed=1),
        "toy/of_mixed": Recipe(parents=(("toy/mixed", 1.0),), effects=(("gain", {"decibels": -3}),), seed=1),
    }
    utterances = table(wav, {"toy": ["0.wav", "1.wav"], "iemocap": ["2.wav"]}, made)
    sounds = Sounds(utterances, stage="train")
    assert {name: sounds.kept_as(name) for name in utterances.frame["utterance_id"]} == {
        "iemocap/2": None,
        "toy/0": "toy",
        "toy/1": "toy",
        "toy/free": "toy",
        "toy/mixed": None,
        "toy/of_mixed": None,
    }
    assert sounds.kept_as("nobody") is None
    assert vectors(utterances, tmp_path / "own").made == 6
    assert vectors(utterances, tmp_path / "another").made == 3


def test_a_recording_that_was_renamed_as_its_finding_says_has_no_finding(wav: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(wav / "0.wav")
    soundfile.write(wav / "9.flac", samples, rate)
    (wav / "9.flac").rename(wav / "9.mp3")
    kinds = [finding.kind for finding in vectors(table(wav, {"toy": ["9.mp3"]}), tmp_path).findings]
    assert "wrongly_named" in kinds
    moved = tmp_path / "moved"
    moved.mkdir()
    (wav / "9.mp3").rename(moved / "9.mp3")
    again = vectors(table(moved, {"toy": ["9.mp3"]}), tmp_path)
    assert again.made == 0
    assert [f.where for f in again.findings if f.kind == "wrongly_named"] == [str(moved / "9.mp3")]
    (moved / "9.mp3").rename(moved / "9.flac")
    right = vectors(table(moved, {"toy": ["9.flac"]}), tmp_path)
    assert "wrongly_named" not in {finding.kind for finding in right.findings}


def test_a_clip_without_any_feature_is_said_although_remarks_are_not_wanted(wav: Path, tmp_path: Path) -> None:
    soundfile.write(wav / "short.wav", 0.1 * np.sin(np.arange(800)), 16_000)
    utterances = table(wav, {"toy": ["0.wav", "short.wav"]})
    for _ in range(2):
        result = vectors(utterances, tmp_path, remarks=False)
        assert [(finding.kind, finding.utterance_id) for finding in result.findings] == [("too_short", "toy/short")]
        assert result.known.tolist() == [True, False]


def test_what_is_computed_of_a_file_that_changes_meanwhile_is_not_kept(wav: Path, tmp_path: Path) -> None:
    utterances = table(wav, {"toy": ["0.wav", "1.wav"]})
    ids, compute, before = utterances.frame["utterance_id"].to_list(), measuring("listen"), (wav / "0.wav").read_bytes()

    class Changing(Sounds):
        def open(self, utterance_id: str) -> Opened:
            if utterance_id == "toy/0":
                (wav / "0.wav").write_bytes((wav / "3.wav").read_bytes())
            return super().open(utterance_id)

    sounds = Changing(utterances, stage="listen")
    assert vectors_of(ids, sounds, compute, width=len(NAMES), digest=DIGEST, folder=tmp_path).made == 2
    (wav / "0.wav").write_bytes(before)
    assert vectors(utterances, tmp_path).made == 1


def test_what_was_computed_before_an_interruption_is_kept(wav: Path, tmp_path: Path) -> None:
    utterances = table(wav, {"toy": ["0.wav", "1.wav", "2.wav", "3.wav"]})
    ids, compute = utterances.frame["utterance_id"].to_list(), measuring("listen")

    def interrupted(clip: Clip, utterance_id: str) -> tuple[Floats | None, tuple[Finding, ...]]:
        if utterance_id == "toy/3":
            raise KeyboardInterrupt
        return compute(clip, utterance_id)

    with pytest.raises(KeyboardInterrupt):
        vectors_of(ids, Sounds(utterances, stage="listen"), interrupted, width=len(NAMES), digest=DIGEST, folder=wav)
    assert vectors(utterances, tmp_path).made == 1


def test_a_file_with_other_content_under_the_same_name_is_measured(
    wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = table(wav, {"toy": ["0.wav", "1.wav"]})
    first = vectors(utterances, tmp_path)
    (wav / "0.wav").write_bytes((wav / "3.wav").read_bytes())
    again = vectors(utterances, tmp_path)
    assert again.made == 1
    assert not np.array_equal(first.rows[0], again.rows[0], equal_nan=True)
    monkeypatch.setattr(measured, "measure", None)
    assert vectors(utterances, tmp_path).made == 0


def test_kept_rows_are_measured_again_once_features_are_defined_otherwise() -> None:
    script = "import alm_proxies.audio.features as f; f.VERSION += {}; from alm_proxies.audio.measured import DIGEST"
    digests = {
        subprocess.run(
            [sys.executable, "-c", f"{script.format(more)}; print(DIGEST)"], capture_output=True, text=True, check=True
        ).stdout
        for more in (0, 1)
    }
    assert len(digests) == 2


def lengths_and_levels(clips: list[int], refused: str = "") -> Encoding:
    """An encoding that notes how many clips it gets at once: a clip's number of samples and its level."""

    def refuse(clip: Clip, utterance_id: str) -> Finding | None:
        return Finding("listen", "too_short", "of no use", "", utterance_id) if utterance_id == refused else None

    def encode(sounds: Sequence[Clip]) -> Floats:
        clips.append(len(sounds))
        levels = [(len(clip.samples), float(np.abs(clip.samples).mean())) for clip in sounds]
        return np.asarray(levels, dtype=np.float32)

    return Encoding(refuse, encode, at_once=4)


def test_several_clips_at_once_give_the_rows_and_findings_of_one_at_a_time(wav: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    for number, length in enumerate(noise.integers(2_000, 8_000, 70)):
        soundfile.write(wav / f"{number}.wav", 0.1 * noise.standard_normal(length), 16_000)
    (wav / "5.wav").write_text("no sound")
    utterances = table(wav, {"toy": [f"{number}.wav" for number in range(70)]})
    ids, sounds = utterances.frame["utterance_id"].to_list(), Sounds(utterances, stage="listen")
    sizes: list[int] = []
    several = lengths_and_levels(sizes, refused="toy/9")

    def encoded(compute: Compute, digest: str, names: list[str]) -> Vectors:
        return vectors_of(names, sounds, compute, width=2, digest=digest, folder=tmp_path)

    alone = encoded(several.__call__, "alone", ids)
    assert set(sizes) == {1}
    sizes.clear()
    some = encoded(several, "several", ids[:20])
    together = encoded(several, "several", ids)
    np.testing.assert_array_equal(together.rows, alone.rows)
    np.testing.assert_array_equal(together.known, alone.known)
    assert together.findings == alone.findings
    assert [finding.utterance_id for finding in alone.findings] == ["toy/5", "toy/9"]
    assert (some.made, together.made, sum(sizes)) == (18, 50, 68)
    assert max(sizes) == 4
    assert len(sizes) < 30
    sizes.clear()
    assert encoded(several, "several", ids).made == 0
    assert sizes == []

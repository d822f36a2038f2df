"""What leaves, what is left out and counted, and what is refused; a partial export is never taken for a whole one."""

from __future__ import annotations

import io
import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from forked import Forked

from alm_proxies.alone import alone_beside
from alm_proxies.errors import InputError, OutputError, SettingsError
from alm_proxies.files import canonical_json
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.stages.export.stage import export
from alm_proxies.tables import Labels, Utterances, Votes

Corpus = tuple[Labels, Utterances, Votes]


def changed(utterances: Utterances, **columns: object) -> Utterances:
    return Utterances(utterances.frame.with_columns(**columns), utterances.about)


def restricted(corpus: Corpus) -> Utterances:
    utterances = corpus[1]
    about = utterances.about.with_(roots={"iemocap": utterances.about.roots["sim"]})
    return Utterances(utterances.frame.with_columns(corpus=pl.lit("iemocap")), about)


def test_a_folder_that_holds_something_is_never_touched(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="never overwritten"):
        export(corpus[0], corpus[1], tmp_path / "out", ExportSettings(format="csv"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_untouched_export_is_made_again_and_one_with_something_of_the_users_is_not(
    corpus: Corpus, tmp_path: Path
) -> None:
    settings = ExportSettings(format="speechbrain", audio="copy")
    export(corpus[0], corpus[1], tmp_path / "out", settings)
    again = export(
        corpus[0], corpus[1], tmp_path / "out", settings.model_copy(update={"format": "csv", "audio": "reference"})
    )
    assert not (again.folder / "audio").exists()
    labels = (again.folder / "labels.csv").read_text()
    (again.folder / "labels.csv").write_text(labels[:-2] + "9\n")  # as long as it was
    with pytest.raises(InputError, match=r"labels\.csv, which was changed since the export"):
        export(corpus[0], corpus[1], tmp_path / "out", settings)
    (again.folder / "labels.csv").write_text("corrected by hand")
    with pytest.raises(InputError, match=r"labels\.csv"):
        export(corpus[0], corpus[1], tmp_path / "out", settings)
    assert (again.folder / "labels.csv").read_text() == "corrected by hand"
    for broken in ("{", "{}", "[]"):
        (again.folder / "export.json").write_text(broken)
        with pytest.raises(InputError, match="which export did not write"):
            export(corpus[0], corpus[1], tmp_path / "out", settings)


def test_when_a_write_fails_nothing_is_left(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OutputError, match="No space left"):
        export(corpus[0], corpus[1], tmp_path / "out", ExportSettings(format="huggingface"))
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_folder_stays_and_what_it_leads_to_is_written_and_replaced(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for _ in range(2):
        written = export(corpus[0], corpus[1], tmp_path / "link", ExportSettings(format="csv"))
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk" / written.files[0].name).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def test_a_folder_that_another_export_is_writing_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with (
        alone_beside(tmp_path / "out", "export", ""),
        ThreadPoolExecutor(1) as another,
        pytest.raises(InputError, match="another export is writing") as refused,
    ):
        another.submit(export, corpus[0], corpus[1], tmp_path / "out", ExportSettings(format="csv")).result()
    assert "Wait until it is done" in str(refused.value)
    export(corpus[0], corpus[1], tmp_path / "out", ExportSettings(format="csv"))


def test_a_folder_that_another_export_wrote_meanwhile_is_said_and_not_called_a_full_disk(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def later(self: Path, target: Path) -> Path:
        if Path(target).name == "out":
            Path(target).mkdir()
            (Path(target) / "theirs.csv").write_text("x")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", later)
    with pytest.raises(OutputError, match="Something else was written there meanwhile: run the same command again"):
        export(corpus[0], corpus[1], tmp_path / "out", ExportSettings(format="csv"))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs.csv"]


KILLED = """
import os, shutil, sys
from alm_proxies.stages.export.stage import ExportSettings, export
from alm_proxies.tables import Labels, Utterances
shutil.copyfile = lambda *_: os.kill(os.getpid(), 9)
folder = sys.argv[1]
export(Labels.read(f"{folder}/labels.parquet"), Utterances.read(f"{folder}/utterances.parquet"), f"{folder}/made/out",
       ExportSettings(audio="copy"))
"""


def test_what_a_killed_export_left_is_removed_by_the_next_and_nothing_else(corpus: Corpus, tmp_path: Path) -> None:
    corpus[0].write(tmp_path / "labels.parquet")
    corpus[1].write(tmp_path / "utterances.parquet")
    made = tmp_path / "made"
    assert Forked.done("-c", KILLED, tmp_path).returncode == -9
    assert sorted(path.suffix for path in made.iterdir()) == [".lock", ".part"]
    (made / ".out.mine.part").mkdir()
    export(corpus[0], corpus[1], made / "out", ExportSettings(audio="copy"))
    assert sorted(path.name for path in made.iterdir()) == [".out.mine.part", "out"]


def test_restricted_corpora_are_only_referred_to_and_their_transcripts_stay(corpus: Corpus, tmp_path: Path) -> None:
    utterances = restricted(corpus)
    written = export(corpus[0], utterances, tmp_path / "out", ExportSettings(format="csv", name="mine", audio="copy"))
    frame = pl.read_csv(written.folder / "mine.csv")
    assert frame["transcript"].null_count() == 30
    assert all(Path(file).is_absolute() for file in frame["file"])
    assert not (written.folder / "audio").exists()
    assert written.findings.counts()["kept_back"] == 30
    referred = written.findings.frame.filter(pl.col("kind") == "referred_to")
    assert (referred["count"].to_list(), referred["severity"].to_list()) == ([30], ["warning"])
    assert 'may_leave = ["iemocap"]' in referred["fix"][0]
    alone = export(corpus[0], utterances, tmp_path / "out", ExportSettings(format="csv", name="mine"))
    assert "referred_to" not in alone.findings.counts()
    with pytest.raises(InputError, match=r"may not be copied.*the corpus iemocap has to stay"):
        export(corpus[0], utterances, tmp_path / "hf", ExportSettings(format="huggingface"))
    named = ExportSettings(format="huggingface", may_leave=("iemocap",))
    written = export(corpus[0], utterances, tmp_path / "hf", named)
    assert sum(written.counts.values()) == 30
    cards = [(folder / "README.md").read_text(encoding="utf-8") for folder in (alone.folder, written.folder)]
    assert ["are not included" in card for card in cards] == [True, False]
    assert ["were allowed by name in this export" in card for card in cards] == [False, True]


def test_a_corpus_without_a_card_or_a_name_is_told_what_allows_copies(corpus: Corpus, tmp_path: Path) -> None:
    about = corpus[1].about.with_(roots=dict.fromkeys(("own", ""), corpus[1].about.roots["sim"]))
    for name, fix in (("own", "own.md in the folder of --cards"), ("", "Name the corpus where it is read")):
        utterances = Utterances(corpus[1].frame.with_columns(corpus=pl.lit(name)), about)
        for mode in ("copy", "link"):
            settings = ExportSettings(format="speechbrain", audio=mode)
            written = export(corpus[0], utterances, tmp_path / f"{mode}{name}", settings)
            referred = written.findings.frame.filter(pl.col("kind") == "referred_to")
            assert fix in referred["fix"][0]
            assert ("copied" if mode == "copy" else "linked") in referred["message"][0]
            assert written.left_out == 0


def test_containers_that_are_not_read_here_are_for_the_trainer_to_judge(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0 ftypisom" + bytes(500))
    utterances = changed(corpus[1], audio=pl.lit(str(tmp_path / "a.mp4")))
    written = export(corpus[0], utterances, tmp_path / "hf", ExportSettings(format="huggingface"))
    assert (sum(written.counts.values()), written.left_out) == (30, 0)
    with pytest.raises(InputError, match="nothing can be exported: 29 items .* is not an audio file"):
        export(corpus[0], utterances, tmp_path / "nemo", ExportSettings(format="nemo"))


def test_audio_is_copied_linked_or_referred_to_as_asked(corpus: Corpus, tmp_path: Path) -> None:
    for mode in ("reference", "copy", "link"):
        written = export(corpus[0], corpus[1], tmp_path / mode, ExportSettings(format="speechbrain", audio=mode))
        inside = list((written.folder / "audio").glob("*")) if (written.folder / "audio").exists() else []
        assert len(inside) == (0 if mode == "reference" else 29)
        assert all(path.is_symlink() == (mode == "link") for path in inside)


def test_ties_are_left_out_broken_or_spread_and_weights_are_kept_when_spread(corpus: Corpus, tmp_path: Path) -> None:
    labels, utterances, _ = corpus
    tied = labels.frame["utterance_id"][7]
    rows = {}
    for ties in ("leave_out", "first", "spread"):
        settings = ExportSettings(format="emobox", name="mine", ties=ties)
        written = export(labels, utterances, tmp_path / ties, settings)
        frame = pl.read_ndjson(written.folder / "data" / "mine" / "mine.jsonl")
        rows[ties] = frame.filter(pl.col("key").str.contains("1003_s-07"))
        assert frame["key"].n_unique() == frame.height
        assert written.findings.counts()["tied_labels"] == 1
    assert rows["leave_out"].height == 0
    assert rows["first"]["emo"].to_list() == ["angry"]
    assert rows["spread"]["emo"].to_list() == ["angry", "happy"]
    weight = labels.frame.filter(pl.col("utterance_id") == tied)["weight"][0]
    assert rows["spread"]["weight"].sum() == pytest.approx(weight)
    every = labels.frame.with_columns(pl.lit(0.25).alias(f"p_{label}") for label in labels.taxonomy)
    with pytest.raises(InputError, match="30 utterances have several most likely labels.*Set ties to first or spread"):
        export(Labels.of(every, about=labels.about), utterances, tmp_path / "none", ExportSettings(format="emobox"))
    with pytest.raises(InputError, match="labels: has no rows"):
        export(Labels(labels.frame.head(0), labels.about), utterances, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_labels_are_renamed_and_merged_on_the_way_out(corpus: Corpus, tmp_path: Path) -> None:
    settings = ExportSettings(
        format="parquet", name="mine", map={"happy": "joy", "angry": "negative", "sad": "negative"}
    )
    written = export(corpus[0], corpus[1], tmp_path / "out", settings, votes=corpus[2])
    frame = pl.read_parquet(written.folder / "mine.parquet")
    shares = corpus[0].distributions()
    np.testing.assert_allclose(frame["p_negative"].to_numpy(), shares[:, 0] + shares[:, 3])
    assert (
        frame.select(pl.sum_horizontal("votes_negative", "votes_joy", "votes_neutral")).to_series().to_list()
        == [3] * 30
    )


def test_targets_are_the_labels_or_the_plain_shares_of_the_votes(corpus: Corpus, tmp_path: Path) -> None:
    labels, utterances, votes = corpus
    with pytest.raises(InputError, match="needs the human votes"):
        export(labels, utterances, tmp_path / "none", ExportSettings(targets="votes"))
    written = export(labels, utterances, tmp_path / "plain", ExportSettings(targets="votes"), votes=votes)
    rows = pl.read_csv(written.folder / "labels.csv")
    shares = votes.frame.group_by("utterance_id").agg((pl.col("label") == "sad").mean().alias("share"))
    both = rows.join(shares, on="utterance_id")
    assert both.height == 30
    assert (both["p_sad"] - both["share"]).abs().max() < 1e-6
    assert sorted(rows["weight"].round(6)) == sorted(labels.frame["weight"].round(6))
    assert "plain shares of the human votes" in (written.folder / "README.md").read_text(encoding="utf-8")


def test_items_without_a_recording_are_counted_and_kept_by_tables_alone(corpus: Corpus, tmp_path: Path) -> None:
    gone = changed(
        corpus[1],
        audio=pl.when(pl.int_range(pl.len()) < 2).then(None).when(pl.int_range(pl.len()) < 5).then(pl.lit("no.wav"))
        .otherwise(pl.col("audio")),
    )  # fmt: skip
    written = export(corpus[0], gone, tmp_path / "lhotse", ExportSettings(format="lhotse"))
    assert sum(written.counts.values()) == 25
    assert written.findings.counts()["no_audio"] == 2
    assert written.findings.counts()["missing"] == 3
    written = export(corpus[0], gone, tmp_path / "csv", ExportSettings(format="csv"))
    assert sum(written.counts.values()) == 30


def test_seconds_of_longer_files_are_cut_where_the_format_holds_files_alone(corpus: Corpus, tmp_path: Path) -> None:
    cut = changed(corpus[1], start=pl.lit(0.05), end=pl.lit(0.2))
    written = export(corpus[0], cut, tmp_path / "s3prl", ExportSettings(format="s3prl"))
    files = list((written.folder / "audio").glob("*.flac"))
    assert len(files) == 29
    assert soundfile.info(str(files[0])).frames == pytest.approx(0.15 * 16_000, abs=1)
    written = export(corpus[0], cut, tmp_path / "nemo", ExportSettings(format="nemo"))
    row = pl.read_ndjson(written.folder / "train.json").row(0, named=True)
    assert (row["offset"], row["duration"]) == (pytest.approx(0.05), pytest.approx(0.15))
    assert not (written.folder / "audio").exists()


def test_generated_items_are_rendered_into_the_export(corpus: Corpus, tmp_path: Path) -> None:
    labels, utterances, _ = corpus
    parent = utterances.frame["utterance_id"][0]
    recipe = canonical_json({"parents": [[parent, 1.0]], "effects": [["gain", {"decibels": -6.0}]], "seed": 1})
    row = utterances.frame.head(1).with_columns(
        utterance_id=pl.lit(f"{parent}#2"), audio=pl.lit(None, pl.String), recipe=pl.lit(recipe)
    )
    more = Utterances(pl.concat([utterances.frame, row]), utterances.about)
    twin = labels.frame.head(1).with_columns(utterance_id=pl.lit(f"{parent}#2"))
    both = Labels(pl.concat([labels.frame, twin]), labels.about)
    written = export(both, more, tmp_path / "out", ExportSettings(format="webdataset", name="mine"))
    assert written.findings.counts()["rendered"] == 1
    kinds = []
    for path in written.folder.glob("*.tar"):
        with tarfile.open(path) as shard:
            for name in shard.getnames():
                sound = shard.extractfile(name)
                assert sound is not None
                if name.endswith(".flac"):
                    kinds.append(soundfile.info(io.BytesIO(sound.read())).subtype)
    assert kinds == ["PCM_24"]  # as exact as the recipe
    assert sum(written.counts.values()) == 31


def test_names_that_climb_or_clash_stay_inside_and_apart(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.linspace(-0.1, 0.1, 1600), 16_000)
    ids = ["../../up", "a/B", "a-b", "a b", "../../../etc/x"]
    shares = {"p_angry": [0.6] * 5, "p_sad": [0.4] * 5}
    labels = Labels.of(pl.DataFrame({"utterance_id": ids, **shares}), taxonomy=("angry", "sad"))
    utterances = Utterances.of(pl.DataFrame({"utterance_id": ids, "corpus": "sim", "audio": str(tmp_path / "a.wav")}))
    written = export(labels, utterances, tmp_path / "out", ExportSettings(format="speechbrain", audio="copy"))
    files = [Path(folder) / name for folder, _, names in os.walk(written.folder / "audio") for name in names]
    assert len(files) == 5
    assert all(path.resolve().is_relative_to(written.folder) for path in files)
    assert len({path.name.lower() for path in files}) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "out"]


def test_an_id_that_ends_like_a_recording_gives_a_file_with_one_ending(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.linspace(-0.1, 0.1, 1600), 16_000)
    ids = ["c/a.wav", "c/b.WAV", "c/b.flac", "c/b", "c/.wav", "c/d.e"]
    labels = Labels.of(pl.DataFrame({"utterance_id": ids, "p_angry": 0.6, "p_sad": 0.4}), taxonomy=("angry", "sad"))
    utterances = Utterances.of(pl.DataFrame({"utterance_id": ids, "corpus": "sim", "audio": str(tmp_path / "a.wav")}))
    written = export(labels, utterances, tmp_path / "out", ExportSettings(format="speechbrain", audio="copy"))
    rows = json.loads((written.folder / "train.json").read_text())
    files = {path.name for path in (written.folder / "audio").iterdir()}
    assert len(files) == len(rows) == 6
    assert {name.removesuffix(".wav") for name in files} == set(rows)
    assert sorted(rows) == ["c", "c-a", "c-b", "c-b~2", "c-b~3", "c-d.e"]


def test_no_item_is_lost_where_a_format_changes_names_so_that_two_are_the_same(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.linspace(-0.1, 0.1, 1600), 16_000)
    ids = ["a.b", "a_b", "a", "a-2"]
    shares = {"p_angry": [0.6, 0.6, 0.5, 0.6], "p_sad": [0.4, 0.4, 0.5, 0.4]}
    labels = Labels.of(pl.DataFrame({"utterance_id": ids, **shares}), taxonomy=("angry", "sad"))
    utterances = Utterances.of(pl.DataFrame({"utterance_id": ids, "corpus": "sim", "audio": str(tmp_path / "a.wav")}))
    settings = ExportSettings(format="webdataset", may_leave=("sim",))
    written = export(labels, utterances, tmp_path / "shards", settings)
    with tarfile.open(written.folder / "train-000000.tar") as tar:
        names = tar.getnames()
        contents = [json.load(stream) for name in names if name.endswith("json") and (stream := tar.extractfile(name))]
    assert len(set(names)) == len(names) == 8
    assert [content["utterance_id"] for content in contents] == ids
    settings = ExportSettings(format="speechbrain", ties="spread")
    written = export(labels, utterances, tmp_path / "spread", settings)
    rows = json.loads((written.folder / "train.json").read_text())
    assert {key: row["weight"] for key, row in rows.items()} == {
        "a.b": 1.0, "a_b": 1.0, "a": 0.5, "a-2": 0.5, "a-2~2": 1.0,
    }  # fmt: skip


def test_a_wrong_format_or_label_is_refused_with_the_nearest_name(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lhotse"):
        export(corpus[0], corpus[1], tmp_path / "out", ExportSettings(format="lotse"))
    with pytest.raises(SettingsError, match="happy"):
        export(corpus[0], corpus[1], tmp_path / "out", ExportSettings(format="csv", map={"hapy": "joy"}))


@pytest.mark.parametrize("name", ["", " ", "joy, happiness", 'the "happy"', "joy\n"])
def test_a_label_gets_no_name_that_no_label_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="happy = .*cannot be a label. Use words without commas"):
        ExportSettings(format="csv", map={"happy": name})


def test_speakers_on_both_sides_of_a_split_are_found(corpus: Corpus, tmp_path: Path) -> None:
    mixed = changed(corpus[1], split=pl.Series(["train", "test"] * 15))
    written = export(corpus[0], mixed, tmp_path / "out", ExportSettings(format="csv"))
    assert written.findings.counts()["speaker_in_two_splits"] == 10

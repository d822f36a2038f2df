"""Every export is loaded by the program it is for, from a path with a space and letters outside ASCII."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.plugins import plugins
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.stages.export.stage import Exported, export
from alm_proxies.tables import Labels, Utterances, Votes

pytestmark = pytest.mark.filterwarnings("default")  # what these programs warn of is theirs to change
Corpus = tuple[Labels, Utterances, Votes]


def exported(corpus: Corpus, tmp_path: Path, name: str, **settings: object) -> Exported:
    labels, utterances, votes = corpus
    target = tmp_path / "Ausgabe für alle" / name
    wanted = ExportSettings.model_validate({"format": name, "name": "mine", **settings})
    return export(labels, utterances, target, wanted, votes=votes)


def shares_of(corpus: Corpus, utterance_id: str) -> list[float]:
    labels = corpus[0]
    row = labels.frame["utterance_id"].to_list().index(utterance_id)
    shares: list[float] = labels.distributions()[row].tolist()
    return shares


def test_datasets_reads_the_audiofolder_with_every_distribution(corpus: Corpus, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is a development dependency")
    written = exported(corpus, tmp_path, "huggingface")
    builder = datasets.load_dataset_builder(str(written.folder), cache_dir=str(tmp_path / "cache"))
    # Its reader of audio folders, up to where datasets 5 asks for torchcodec although nothing is decoded.
    rows = {
        str(split.name): [row for _, row in builder._generate_examples(**split.gen_kwargs)]
        for split in builder._split_generators(datasets.DownloadManager())
    }
    assert {name: len(part) for name, part in rows.items()} == {"train": 18, "validation": 6, "test": 6}
    row = rows["train"][0]
    assert Path(row["audio"]).is_file()
    got = [row[f"p_{label}"] for label in corpus[0].taxonomy]
    assert got == pytest.approx(shares_of(corpus, row["utterance_id"]))
    assert sum(row["votes"]) == 3


def test_datasets_loads_the_parquet_files_with_the_recordings_in_them(corpus: Corpus, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is a development dependency")
    import io

    import soundfile

    written = exported(corpus, tmp_path, "huggingface_parquet")
    loaded = datasets.load_dataset(str(written.folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 18, "validation": 6, "test": 6}
    row = loaded["test"].cast_column("audio", datasets.Audio(decode=False))[5]
    samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
    assert (len(samples), rate) == (4_000 + 200 * 29, 16_000)
    assert not (written.folder / "audio").exists()


@pytest.mark.parametrize("name", ["huggingface", "huggingface_parquet"])
def test_datasets_reads_splits_of_which_some_have_no_ratings_and_no_known_speakers(
    corpus: Corpus, tmp_path: Path, name: str
) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is a development dependency")
    from alm_proxies.tables import ATTRIBUTES

    rated = pl.Series(range(30)) >= 20  # none of split train, not the first of split development
    labels = corpus[0].frame.with_columns(pl.when(rated).then(pl.col(*ATTRIBUTES)))
    utterances = corpus[1].frame.with_columns(pl.when(pl.col("split") != "test").then("speaker"))
    tables = (Labels(labels, corpus[0].about), Utterances(utterances, corpus[1].about), corpus[2])
    written = exported(tables, tmp_path, name)
    builder = datasets.load_dataset_builder(str(written.folder), cache_dir=str(tmp_path / "cache"))
    splits = builder._split_generators(datasets.DownloadManager())
    if name == "huggingface":  # without torchcodec
        rows = [row for split in splits for _, row in builder._generate_examples(**split.gen_kwargs)]
    else:
        loaded = datasets.load_dataset(str(written.folder), cache_dir=str(tmp_path / "cache"))
        rows = [row for part in loaded.values() for row in part.remove_columns("audio")]
    got = {row["utterance_id"]: (row["valence"], row["speaker"]) for row in rows}
    valence = dict(labels.select("utterance_id", "valence").iter_rows())
    assert got == {
        each: (valence[each], speaker) for each, speaker in utterances["utterance_id", "speaker"].iter_rows()
    }
    assert sum(value is not None for value, _ in got.values()) == 10
    for features in (builder.info.features["valence"], builder.info.features["speaker"]):
        assert features.dtype != "null"


def test_the_hub_reads_the_card(corpus: Corpus, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is a development dependency")
    card = hub.DatasetCard.load(str(exported(corpus, tmp_path, "huggingface").folder / "README.md"))
    assert card.data.pretty_name == "mine"
    assert card.data.to_dict()["configs"][0]["data_files"][1]["split"] == "validation"
    assert "Not suitable" in card.text


def test_parts_of_recordings_have_ids_for_lhotse_that_are_apart_over_all_splits(corpus: Corpus, tmp_path: Path) -> None:
    frame = corpus[1].frame.with_columns(
        start=pl.lit(0.05), end=pl.lit(0.15), split=pl.Series(["train", "development", "test"] * 10)
    )
    parts = (corpus[0], Utterances.of(frame, about=corpus[1].about), corpus[2])
    folder = exported(parts, tmp_path, "lhotse").folder
    files: dict[str, str] = {}
    for path in folder.glob("mine_recordings_*.jsonl.gz"):
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            recording = json.loads(line)
            source = recording["sources"][0]["source"]
            assert files.setdefault(recording["id"], source) == source
    assert len(files) == len(set(files.values())) == 30


def test_lhotse_loads_recordings_and_supervisions_and_their_sound(corpus: Corpus, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse", reason="lhotse is a development dependency")
    written = exported(corpus, tmp_path, "lhotse")
    recordings = lhotse.RecordingSet.from_file(written.folder / "mine_recordings_train.jsonl.gz")
    supervisions = lhotse.SupervisionSet.from_file(written.folder / "mine_supervisions_train.jsonl.gz")
    cuts = lhotse.CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
    assert len(cuts) == 18
    lhotse.validate(recordings)
    lhotse.validate(supervisions)
    cut = next(iter(cuts))
    assert cut.load_audio().shape == (1, 4_000)
    assert sum(cut.supervisions[0].custom["distribution"].values()) == pytest.approx(1, abs=1e-5)


def test_webdataset_reads_the_shards(corpus: Corpus, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="webdataset is a development dependency")
    written = exported(corpus, tmp_path, "webdataset")
    shards = sorted(str(path) for path in written.folder.glob("train-*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False))
    assert len(samples) == 18
    sample = json.loads(samples[0]["json"])
    assert [sample[f"p_{label}"] for label in corpus[0].taxonomy] == pytest.approx(
        shares_of(corpus, sample["utterance_id"])
    )
    assert samples[0]["wav"][:4] == b"RIFF"


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_audformat_loads_the_database(corpus: Corpus, tmp_path: Path, mode: str) -> None:
    audformat = pytest.importorskip("audformat", reason="audformat is a development dependency")
    written = exported(corpus, tmp_path, "audformat", audio=mode)
    database = audformat.Database.load(str(written.folder))
    table = database["emotion.distribution.train"].get()
    assert table.shape == (18, 4)
    assert table.to_numpy().sum(1) == pytest.approx(np.ones(18))
    assert database["emotion.train"].get()["emotion"].isna().sum() == 1  # the tie has no label
    if mode == "copy":
        assert database.is_portable
        assert all((written.folder / file).is_file() for file in database.files)


def test_mlcroissant_validates_and_reads_the_rows(corpus: Corpus, tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is a development dependency")
    written = exported(corpus, tmp_path, "croissant")
    dataset = croissant.Dataset(jsonld=str(written.folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    rows = list(dataset.records(record_set="items"))
    assert len(rows) == 30
    assert sum(rows[0][f"items/p_{label}"] for label in corpus[0].taxonomy) == pytest.approx(1)


def test_the_odyssey_tables_hold_what_its_reader_asks_for_and_a_soft_step_is_made(
    corpus: Corpus, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    written = exported(corpus, tmp_path, "odyssey")
    config = json.loads((written.folder / "config_cat.json").read_text())
    frame = pl.read_csv(config["label_path"])
    wanted = ["Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral"]
    assert frame.columns == ["FileName", *wanted, "Split_Set"]
    assert frame.select(pl.sum_horizontal("Surprise", "Fear", "Disgust", "Contempt").sum()).item() == 0
    assert {name: len(part) for (name,), part in frame.group_by("Split_Set")} == {
        "Train": 18, "Development": 6, "Test1": 6,
    }  # fmt: skip
    assert all((Path(config["wav_dir"]) / name).is_file() for name in frame["FileName"])
    targets = torch.tensor(frame.select(wanted).to_numpy())
    assert targets.sum(1).numpy() == pytest.approx(np.ones(30), abs=1e-5)
    counts = targets.sum(0)
    weight = torch.where(counts > 0, 30 / (8 * counts), 0.0)  # as their training script weighs classes
    logits = torch.zeros(30, 8, requires_grad=True, dtype=targets.dtype)
    torch.nn.CrossEntropyLoss(weight=weight)(logits, targets).backward()
    assert torch.isfinite(logits.grad).all()
    config = json.loads((written.folder / "config.json").read_text())
    rated = pl.read_csv(config["label_path"])
    assert rated.columns == ["FileName", "EmoAct", "EmoDom", "EmoVal", "Split_Set"]
    assert rated.select(pl.col("EmoAct", "EmoDom", "EmoVal").is_between(1, 7).all()).row(0) == (True, True, True)


def test_labels_that_the_odyssey_reader_does_not_know_are_reported(corpus: Corpus, tmp_path: Path) -> None:
    written = exported(corpus, tmp_path, "odyssey", map={"happy": "bored"})
    assert written.findings.counts()["unread_labels"] == 1
    header = (written.folder / "labels_categorical.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.endswith("Contempt,Neutral,Bored,Split_Set")
    assert "unread_labels" not in exported(corpus, tmp_path / "known", "odyssey").findings.counts()


@pytest.mark.parametrize("mode", ["reference", "copy", "link"])
def test_emo_superb_finds_its_parts_recordings_and_smoothed_targets(corpus: Corpus, tmp_path: Path, mode: str) -> None:
    written = exported(corpus, tmp_path, "emo_superb", audio=mode)
    place = written.folder / "mine" / "Primary"
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    names = config["categorical"]["emo_type"]
    header, *lines = (place / "labels_consensus_1.csv").read_text(encoding="utf-8").splitlines()
    assert set(names) < set(header.split(","))  # they split the first line at commas
    rows = list(csv.reader(lines))
    counts = {}
    for part, split in config["data_split_type"].items():
        files = sorted(row[0] for row in rows if row[-1] == split)
        paths = sorted(os.path.join(written.folder / "mine" / "Audios", name) for name in files)  # noqa: PTH118
        assert all(path.endswith(name) and Path(path).is_file() for path, name in zip(paths, files, strict=True))
        counts[part] = len(files)
    assert counts == {"train": 18, "dev": 6, "test": 6}
    frame = pl.read_csv(place / "labels_consensus_1.csv")
    assert frame.select(pl.sum_horizontal(names)).to_series().to_numpy() == pytest.approx(np.ones(30), abs=1e-5)
    assert frame.select(pl.min_horizontal(names)).to_series().min() >= 0.05 / 3 - 1e-6
    assert (written.folder / "mine" / "Audios").exists() == (mode != "reference")
    assert not (written.folder / "audio").exists()


def test_emobox_lists_every_recording_for_the_extraction_of_features(corpus: Corpus, tmp_path: Path) -> None:
    data = exported(corpus, tmp_path, "emobox").folder / "data" / "mine"
    every = json.loads((data / "mine.json").read_text(encoding="utf-8"))
    parts = {part: json.loads((data / "fold_1" / f"mine_{part}_fold_1.json").read_text(encoding="utf-8"))
             for part in ("train", "valid", "test")}  # fmt: skip
    assert every == {key: item for part in parts.values() for key, item in part.items()}
    named = json.loads((data / "label_map.json").read_text(encoding="utf-8"))
    assert all(item["emo"] in named and item["channel"] == 1 for item in every.values())


def test_s3prl_finds_recordings_and_the_number_of_each_label(corpus: Corpus, tmp_path: Path) -> None:
    written = exported(corpus, tmp_path, "s3prl")
    for part, count in {"train": 17, "test": 6}.items():
        content = json.loads((written.folder / "Session1" / f"{part}_meta_data.json").read_text(encoding="utf-8"))
        assert sorted(content["labels"].values()) == list(range(4))
        assert len(content["meta_data"]) == count
        assert all(Path(item["path"]).is_file() and item["label"] in content["labels"] for item in content["meta_data"])


@pytest.mark.parametrize("name", ["emobox", "speechbrain", "nemo", "s3prl"])
def test_manifests_with_one_label_name_files_that_are_there_and_leave_ties_out(
    corpus: Corpus, tmp_path: Path, name: str
) -> None:
    written = exported(corpus, tmp_path, name)
    assert written.findings.counts()["tied_labels"] == 1
    assert sum(written.counts.values()) == 29
    paths = {"emobox": "data/mine/fold_1/mine_train_fold_1.jsonl", "speechbrain": "train.json", "nemo": "train.json",
             "s3prl": "Session1/train_meta_data.json"}  # fmt: skip
    text = (written.folder / paths[name]).read_text(encoding="utf-8")
    if name in ("emobox", "nemo"):
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = list(json.loads(text).values()) if name == "speechbrain" else json.loads(text)["meta_data"]
    assert len(rows) == 17
    key = {"emobox": "wav", "speechbrain": "wav", "nemo": "audio_filepath", "s3prl": "path"}[name]
    assert all(Path(row[key]).is_file() for row in rows)
    label = {"emobox": "emo", "speechbrain": "emo", "nemo": "label", "s3prl": "label"}[name]
    assert {row[label] for row in rows} <= set(corpus[0].taxonomy)


def test_chats_hold_one_audio_tag_for_each_recording_and_answers_follow_the_shares(
    corpus: Corpus, tmp_path: Path
) -> None:
    labels, utterances, _ = corpus
    heavy = Labels.of(labels.frame.with_columns(weight=pl.lit(200.0)), taxonomy=labels.taxonomy)
    written = export(heavy, utterances, tmp_path / "swift", ExportSettings(format="ms_swift"))
    rows = [json.loads(line) for line in (written.folder / "train_text.jsonl").read_text().splitlines()]
    assert len(rows) == 18 * 200
    assert all(row["messages"][0]["content"].count("<audio>") == len(row["audios"]) == 1 for row in rows)
    answers = pl.Series([row["messages"][1]["content"] for row in rows])
    wanted = labels.distributions()[:18].mean(0)
    got = [(answers == label).mean() for label in labels.taxonomy]
    assert got == pytest.approx(wanted, abs=0.03)
    decision = json.loads((written.folder / "train_decision.jsonl").read_text().splitlines()[0])
    assert sum(decision["target_probs"][0]) == pytest.approx(1, abs=1e-5)
    assert decision["options"] == [list(labels.taxonomy)]


def test_llama_factory_lists_each_file_with_its_columns(corpus: Corpus, tmp_path: Path) -> None:
    written = exported(corpus, tmp_path, "llama_factory")
    listed = json.loads((written.folder / "dataset_info.json").read_text())
    assert set(listed) == {"mine_train", "mine_valid", "mine_test"}
    for entry in listed.values():
        rows = json.loads((written.folder / entry["file_name"]).read_text())
        assert {entry["columns"]["messages"], entry["columns"]["audios"]} == set(rows[0])


@pytest.mark.parametrize("name", ["csv", "parquet", "jsonl"])
def test_tables_hold_what_the_labels_hold(corpus: Corpus, tmp_path: Path, name: str) -> None:
    written = exported(corpus, tmp_path, name)
    reader = {"csv": pl.read_csv, "parquet": pl.read_parquet, "jsonl": pl.read_ndjson}[name]
    frame = reader(written.folder / f"mine.{name}")
    labels = corpus[0]
    assert frame["utterance_id"].to_list() == labels.frame["utterance_id"].to_list()
    shares = frame.select([f"p_{label}" for label in labels.taxonomy]).to_numpy()
    np.testing.assert_allclose(shares, labels.distributions())
    assert frame.select(pl.sum_horizontal(pl.col("^votes_.*$"))).to_series().to_list() == [3.0] * 30


def test_every_format_has_a_card_and_says_which_loss_fits_where_there_is_a_choice(
    corpus: Corpus, tmp_path: Path
) -> None:
    for name, plugin in plugins("exports").items():
        kind = plugin.load()
        text = (exported(corpus, tmp_path, name).folder / "README.md").read_text(encoding="utf-8")
        assert "unsuitable uses" in text
        assert kind.losses.split(".")[0] in text


@pytest.mark.parametrize("name", ["huggingface", "huggingface_parquet"])
def test_datasets_takes_splits_of_any_name(corpus: Corpus, tmp_path: Path, name: str) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is a development dependency")
    called = {"train": "fold-1", "development": "all", "test": "mon été.."}
    utterances = Utterances(corpus[1].frame.with_columns(pl.col("split").replace(called)), corpus[1].about)
    written = exported((corpus[0], utterances, corpus[2]), tmp_path, name)
    builder = datasets.load_dataset_builder(str(written.folder), cache_dir=str(tmp_path / "cache"))
    splits = [split.name for split in builder._split_generators(datasets.DownloadManager())]
    assert list(map(str, splits)) == ["fold_1", "all_", "mon_été__"]
    assert written.findings.counts()["split_renamed"] == 3
    assert "split_renamed" not in exported(corpus, tmp_path / "usual", name).findings.counts()

"""Fusing files in parts gives what fusing them whole gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import polars.testing
import pytest

from alm_proxies.errors import AlmProxiesError
from alm_proxies.estimators.sample import FIT_ROWS
from alm_proxies.stages.fuse.files import FusedFile, fuse_files
from alm_proxies.stages.fuse.labels import Fusion
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import About, AnnotatorCard, Labels, Utterances, Votes, combine

LABELS = ("angry", "happy", "sad")
SMALL = {"part_rows": 700, "whole_rows": 0}
COUNT = 200


def human(utterances: int = COUNT, *, seed: int = 0, secondary: bool = False) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    heard = np.repeat(rng.integers(3, size=utterances), 3)
    answers = np.where(rng.random(3 * utterances) < 0.6, heard, rng.integers(3, size=3 * utterances))
    rows = {
        "utterance_id": [f"c/{i // 3:05d}" for i in range(3 * utterances)],
        "annotator": [f"c/r{i}" for i in rng.integers(9, size=utterances) for i in (i, (i + 1) % 9, (i + 2) % 9)],
        "label": [LABELS[j] for j in answers],
        "valence": np.clip(0.3 * answers + rng.normal(0, 0.1, 3 * utterances), 0, 1),
        "held_out": rng.random(3 * utterances) < 0.1,
    }
    frame = pl.DataFrame(rows)
    if secondary:
        named = [[LABELS[(j + 1) % 3]] if j % 2 else None for j in answers]
        frame = frame.with_columns(secondary=pl.Series(named, dtype=pl.List(pl.String())))
    return frame


def proxies(utterances: int = COUNT, *, seed: int = 1) -> Votes:
    rng = np.random.default_rng(seed)
    heard = np.random.default_rng(0).integers(3, size=utterances)
    parts = []
    for name, right in (("warm", 0.7), ("cold", 0.5), ("scorer", 0.6)):
        there = np.flatnonzero(rng.random(utterances) < 0.8)
        if name == "scorer":
            share = rng.dirichlet([1.0, 1.0, 1.0], size=len(there))
            share[np.arange(len(there)), heard[there]] += right
            share /= share.sum(1, keepdims=True)
            frame = pl.DataFrame(
                {
                    "utterance_id": [f"c/{i:05d}" for i in np.repeat(there, 3)],
                    "annotator": name,
                    "draw": 0,
                    "label": list(LABELS) * len(there),
                    "weight": share.ravel(),
                }
            )
        else:
            answers = np.where(
                rng.random((len(there), 4)) < right, heard[there, None], rng.integers(3, size=(len(there), 4))
            )
            frame = pl.DataFrame(
                {
                    "utterance_id": [f"c/{i:05d}" for i in np.repeat(there, 4)],
                    "annotator": name,
                    "draw": np.tile(np.arange(4), len(there)),
                    "label": [LABELS[j] for j in answers.ravel()],
                    "valence": np.clip(0.3 * answers.ravel() + rng.normal(0, 0.2, answers.size), 0, 1),
                    "weight": 1.0,
                }
            )
        parts.append(frame)
    parts.append(parts[0].with_columns(annotator=pl.lit("twin")))
    cards = {name: AnnotatorCard(digest=name, model="one/model") for name in ("warm", "cold")}
    cards["scorer"] = AnnotatorCard(digest="scorer", model="one/model", elicit="score")
    frame = pl.concat(parts, how="diagonal_relaxed").with_columns(source=pl.lit("proxy"))
    return Votes.of(frame, taxonomy=LABELS, about=About(annotators=cards))


def people(utterances: int = COUNT) -> Utterances:
    rows = {"utterance_id": [f"c/{i:05d}" for i in range(utterances + 50)]}
    frame = pl.DataFrame(rows).with_columns(speaker=pl.lit("s") + (pl.int_range(pl.len()) % 17).cast(pl.String()))
    return Utterances.of(frame.with_columns(duration=(pl.int_range(pl.len()) * 7919 % 101) / 20.0))


def written(folder: Path, table: Votes | Utterances, name: str) -> Path:
    table.write(folder / name)
    return folder / name


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], Path]:
    votes = Votes.of(human(secondary=True), taxonomy=LABELS)
    paths = [written(tmp_path, votes, "votes.parquet"), written(tmp_path, proxies(), "proxies.parquet")]
    return paths, written(tmp_path, people(), "utterances.parquet")


def alike(first: pl.DataFrame, second: pl.DataFrame) -> bool:
    """Equal but for the last digits: a matrix product rounds by how many rows it has."""
    pl.testing.assert_frame_equal(first, second, rel_tol=0, abs_tol=1e-9)
    return True


def rows_of(fused: FusedFile) -> list[tuple[object, ...]]:
    return sorted(fused.findings.frame.select("kind", "message", "count").iter_rows())


@pytest.mark.parametrize("method", ["auto", "gated", "weighted", "supervised", "mixture"])
def test_labels_made_in_parts_are_those_made_at_once(files, tmp_path: Path, method: str):
    votes, utterances = files
    if method == "supervised":
        dense = pl.concat(
            [human(seed=s).with_columns(annotator=pl.lit(f"c/q{s}-") + pl.col("annotator")) for s in (0, 5)]
        )
        votes = [written(tmp_path, Votes.of(dense, taxonomy=LABELS), "dense.parquet"), votes[1]]
    settings = FuseSettings(method=method, columns=("duration",), merge={"primary": 0.9, "secondary": 0.1}, classes=4)
    if method == "supervised":
        settings = FuseSettings(method=method, columns=("duration",))
    once = fuse_files(votes, tmp_path / "once.parquet", settings, utterances=utterances)
    parts = fuse_files(votes, tmp_path / "parts.parquet", settings, utterances=utterances, **SMALL)
    assert once.labels == parts.labels == COUNT
    assert rows_of(once) == rows_of(parts)
    assert once.trials.equals(parts.trials)
    first, second = Labels.read(tmp_path / "once.parquet"), Labels.read(tmp_path / "parts.parquet")
    assert alike(first.frame, second.frame)
    assert first.about == second.about
    table = combine(*(Votes.read(path) for path in votes))
    assert first.about.made_by is not None
    assert first.about.made_by.inputs == {
        "votes": table.content_digest(),
        "utterances": Utterances.read(utterances).content_digest(),
    }
    assert (
        fuse(table, settings, utterances=Utterances.read(utterances))
        .labels.frame.sort("utterance_id")
        .equals(first.frame)
    )


def test_the_same_files_give_the_same_bytes_and_nothing_else_is_left(files, tmp_path: Path):
    votes, utterances = files
    contents = []
    for _ in range(2):
        fuse_files(votes, tmp_path / "l.parquet", FuseSettings(method="gated"), utterances=utterances, **SMALL)
        contents.append((tmp_path / "l.parquet").read_bytes())
    assert contents[0] == contents[1]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["l.parquet", "proxies.parquet", "utterances.parquet", "votes.parquet"]


def test_one_utterance_may_have_more_votes_than_a_part_holds(tmp_path: Path):
    many = pl.DataFrame(
        {"utterance_id": ["c/b"] * 900, "annotator": [f"c/r{i:04d}" for i in range(900)], "label": ["sad"] * 900}
    )
    few = human(40).select("utterance_id", "annotator", "label")
    path = written(tmp_path, Votes.of(pl.concat([few, many]), taxonomy=LABELS), "votes.parquet")
    fuse_files([path], tmp_path / "labels.parquet", part_rows=50, whole_rows=0)
    labels = Labels.read(tmp_path / "labels.parquet").frame
    assert labels.height == 41
    assert labels.filter(pl.col("utterance_id") == "c/b")["human_votes"].item() == 900


@pytest.mark.parametrize(("part_rows", "method"), [(250, "gated"), (700, "auto")])
def test_files_that_are_not_sorted_give_the_labels_of_sorted_ones(files, tmp_path: Path, part_rows: int, method: str):
    votes, utterances = files
    mixed = []
    for number, path in enumerate((*votes, utterances)):
        metadata = {"alm_proxies": pl.read_parquet_metadata(path)["alm_proxies"]}
        shuffled = pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=number)
        shuffled.write_parquet(tmp_path / f"shuffled{number}.parquet", metadata=metadata)
        mixed.append(tmp_path / f"shuffled{number}.parquet")
    parts = {"part_rows": part_rows, "whole_rows": 0}
    settings = FuseSettings(method=method)
    fused = fuse_files(mixed[:2], tmp_path / "a.parquet", settings, utterances=mixed[2], **parts)
    fuse_files(votes, tmp_path / "b.parquet", settings, utterances=utterances, **parts)
    copies = fused.findings.frame.filter(pl.col("kind") == "sorted_copy")
    assert sorted(copies["where"]) == [str(path) for path in mixed]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert not list(tmp_path.glob(".a.parquet*"))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_big_files_of_any_kind_with_the_same_name_give_the_labels_of_sorted_ones(files, tmp_path: Path, ending: str):
    plain, mixed = [], []
    for number, path in enumerate((*files[0], files[1])):
        frame = pl.read_parquet(path)
        frame = frame.select([name for name in frame.columns if name != "secondary" and frame[name].count()])
        (tmp_path / str(number)).mkdir()
        plain.append(tmp_path / str(number) / "plain.parquet")
        frame.write_parquet(plain[-1])
        mixed.append(tmp_path / str(number) / f"table.{ending}")
        frame = frame.sample(fraction=1.0, shuffle=True, seed=number)
        {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](mixed[-1])
    settings, taxonomy = FuseSettings(method="gated", columns=("duration",)), ",".join(LABELS)
    for name, some in (("a.parquet", plain), ("b.parquet", mixed)):
        fuse_files(some[:2], tmp_path / name, settings, utterances=some[2], taxonomy=taxonomy, **SMALL)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_rows_in_any_order_give_the_same_bytes_where_files_are_held_whole(files, tmp_path: Path):
    votes, utterances = files
    mixed = []
    for path in votes:
        metadata = {"alm_proxies": pl.read_parquet_metadata(path)["alm_proxies"]}
        mixed.append(tmp_path / f"mixed-{path.name}")
        pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=5).write_parquet(mixed[-1], metadata=metadata)
    fuse_files(mixed, tmp_path / "a.parquet", utterances=utterances)
    fuse_files(votes, tmp_path / "b.parquet", utterances=utterances)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "cheerful"}, "after row .*, column label, row .*cheerful.* is not in the taxonomy"),
        ({"utterance_id": None}, "after row .*, column utterance_id, row"),
        ({"weight": 0.5}, "column weight"),
        ({"annotator": "warm"}, "'warm' both as human and as proxy"),
    ],
)
def test_a_wrong_row_far_down_is_refused_with_its_place_and_nothing_is_written(files, tmp_path, change, words, wording):
    votes, utterances = files
    frame = pl.read_parquet(votes[0])
    last = pl.int_range(pl.len()) == frame.height - 2
    for name, value in change.items():
        frame = frame.with_columns(pl.when(last).then(pl.lit(value)).otherwise(pl.col(name)).alias(name))
    frame.write_parquet(tmp_path / "wrong.parquet")
    output = tmp_path / "labels.parquet"
    with wording.refused(AlmProxiesError):
        fuse_files(
            [tmp_path / "wrong.parquet", votes[1]], output, utterances=utterances, taxonomy=",".join(LABELS), **SMALL
        )
    assert not output.exists()
    assert not list(tmp_path.glob(".labels*"))


def test_proxies_alone_are_refused_in_parts_too(files, tmp_path: Path, wording):
    with wording.refused(AlmProxiesError):
        fuse_files([files[0][1]], tmp_path / "labels.parquet", **SMALL)


def test_supervised_says_that_votes_are_too_sparse(files, tmp_path: Path, wording):
    with wording.refused(AlmProxiesError):
        fuse_files(files[0], tmp_path / "labels.parquet", FuseSettings(method="supervised"))


def test_a_part_of_ratings_alone_needs_no_taxonomy_of_its_own(tmp_path: Path):
    ids = [f"d/{i:05d}" for i in range(300)]
    rated = pl.DataFrame({"utterance_id": ids, "annotator": "bot", "source": "proxy", "valence": 0.5})
    rated.with_columns(label=pl.lit(None, dtype=pl.String)).write_parquet(tmp_path / "rated.parquet")
    heard = Votes.of(human(60).drop("valence"), taxonomy=LABELS)
    both = [written(tmp_path, heard, "heard.parquet"), tmp_path / "rated.parquet"]
    settings = FuseSettings(method="human")
    fuse_files(both, tmp_path / "once.parquet", settings)
    fuse_files(both, tmp_path / "parts.parquet", settings, part_rows=100, whole_rows=0)
    once, parts = Labels.read(tmp_path / "once.parquet"), Labels.read(tmp_path / "parts.parquet")
    assert len(once) == 360
    assert alike(once.frame, parts.frame)
    assert once.about == parts.about


def test_more_utterances_than_are_fitted_on_give_the_same_sample_in_parts(tmp_path: Path):
    path = written(tmp_path, Votes.of(human(FIT_ROWS + 5_000), taxonomy=LABELS), "votes.parquet")
    settings = FuseSettings(method="dirichlet", seed=3)
    fuse_files([path], tmp_path / "once.parquet", settings)
    fuse_files([path], tmp_path / "parts.parquet", settings, part_rows=40_000, whole_rows=0)
    assert alike(Labels.read(tmp_path / "once.parquet").frame, Labels.read(tmp_path / "parts.parquet").frame)


def test_what_a_killed_run_left_behind_is_neither_read_nor_kept(files, tmp_path: Path):
    left = tmp_path / ".l.parquet.parts"
    left.mkdir()
    for number in (0, 999999):
        (left / f"{number:06d}.parquet").write_bytes(b"half of it")
    fuse_files(files[0], tmp_path / "l.parquet", FuseSettings(method="human"), **SMALL)
    assert len(Labels.read(tmp_path / "l.parquet")) == COUNT
    assert not left.exists()


def test_a_column_that_is_missing_is_told_with_the_nearest_there_is_in_parts_too(files, tmp_path: Path, wording):
    wrong = pl.read_parquet(files[0][0]).rename({"annotator": "annotater"})
    wrong.write_parquet(tmp_path / "wrong.parquet")
    with wording.refused(AlmProxiesError):
        fuse_files([tmp_path / "wrong.parquet"], tmp_path / "labels.parquet", taxonomy=",".join(LABELS), **SMALL)


def test_a_folder_in_place_of_a_votes_file_is_refused_in_words(files, tmp_path: Path, wording):
    (tmp_path / "folder").mkdir()
    Votes.read(files[0][0]).write(tmp_path / "folder" / "other.parquet")
    with wording.refused(AlmProxiesError):
        fuse_files([tmp_path / "folder"], tmp_path / "labels.parquet", **SMALL)


def test_parts_of_another_run_to_the_same_file_are_never_taken_for_its_own(files, tmp_path: Path, monkeypatch):
    settings = FuseSettings(method="human")
    labels_of_part = Fusion.labels

    def labels(fusion: Fusion, votes: Votes, people: Utterances | None) -> Labels:
        if "c/00150" in votes.frame["utterance_id"]:  # another run begins, and writes its first parts
            shutil.rmtree(tmp_path / ".l.parquet.parts")
            (tmp_path / ".l.parquet.parts").mkdir()
            for number in range(3):
                labels_of_part(fusion, votes, people).frame.write_parquet(
                    tmp_path / ".l.parquet.parts" / f"{number:06d}.parquet"
                )
        return labels_of_part(fusion, votes, people)

    monkeypatch.setattr(Fusion, "labels", labels)
    with pytest.raises(AlmProxiesError, match=r"l\.parquet: could not be written"):
        fuse_files(files[0][:1], tmp_path / "l.parquet", settings, part_rows=200, whole_rows=0)
    assert not (tmp_path / "l.parquet").exists()

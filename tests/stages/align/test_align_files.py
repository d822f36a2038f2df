"""The report of files read part by part is the report of the tables, to the byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.files import canonical_json
from alm_proxies.stages.align.files import align_files
from alm_proxies.stages.align.overview import in_parts
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import About, AnnotatorCard, Labels, Utterances, Votes, combine

LABELS = ("angry", "happy", "sad")
SETTINGS = AlignSettings(at_most=120, examples=3)
MANY = 260


def utterances() -> Utterances:
    frame = pl.DataFrame(
        {
            "utterance_id": [f"c/{i:05d}" for i in range(MANY)],
            "corpus": "c",
            "speaker": [f"c/s{i % 13}" if i % 29 else None for i in range(MANY)],
            "gender": [("female", "male")[i % 2] for i in range(MANY)],
            "transcript": [f"Sentence {i}." for i in range(MANY)],
        }
    )
    return Utterances.of(frame)


def human() -> Votes:
    """Five votes an utterance, two of them held out, and for some a published label of the corpus."""
    rng = np.random.default_rng(0)
    heard = rng.integers(3, size=MANY)
    rows = [
        (f"c/{i:05d}", f"c/r{(i + j) % 9}", LABELS[heard[i] if rng.random() < 0.6 else rng.integers(3)], j > 2)
        for i in range(MANY)
        for j in range(5)
    ]
    rows += [(f"c/{i:05d}", "c/consensus", LABELS[heard[i]], False) for i in range(0, MANY, 3)]
    rows += [("c/no label", "c/r0", "sad", False)]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "label", "held_out"], orient="row")
    return Votes.of(frame, taxonomy=LABELS)


def proxies() -> Votes:
    """One that samples, one that scores, and one that was trained on some of the speakers."""
    rng = np.random.default_rng(1)
    sampled = pl.DataFrame(
        {
            "utterance_id": [f"c/{i // 3:05d}" for i in range(3 * MANY)],
            "annotator": "sampler",
            "draw": [i % 3 for i in range(3 * MANY)],
            "label": [LABELS[j] for j in rng.integers(3, size=3 * MANY)],
            "weight": 1.0,
        }
    )
    shares = rng.dirichlet(np.ones(3), size=MANY)
    scored = pl.DataFrame(
        {
            "utterance_id": [f"c/{i // 3:05d}" for i in range(3 * MANY)],
            "annotator": "scorer",
            "draw": [0] * (3 * MANY),
            "label": LABELS * MANY,
            "weight": shares.ravel(),
        }
    )
    trained = sampled.filter(pl.col("draw") == 0).with_columns(annotator=pl.lit("trained"))
    card = AnnotatorCard(digest="0" * 16, trained_on={"c": ["c/s3", "c/s4"]})
    frame = pl.concat([sampled, scored, trained]).with_columns(source=pl.lit("proxy"))
    return Votes.of(frame, taxonomy=LABELS, about=About(annotators={"trained": card}))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("align_files")
    human().write(folder / "human.parquet")
    proxies().write(folder / "proxies.parquet")
    utterances().write(folder / "utterances.parquet")
    votes = combine(Votes.read(folder / "human.parquet"), Votes.read(folder / "proxies.parquet"))
    labels = fuse(votes, FuseSettings(method="weighted"), utterances=utterances()).labels
    own = pl.col("utterance_id").replace({"c/no label": "c/no votes"})
    Labels(labels.frame.with_columns(own), labels.about).write(folder / "labels.parquet")
    return folder


def by_files(folder: Path, **limits: int) -> Alignment:
    votes = [folder / "human.parquet", folder / "proxies.parquet"]
    people, page = folder / "utterances.parquet", folder / "report.html"
    return align_files(folder / "labels.parquet", votes, people, page, SETTINGS, quiet=True, **limits)


@pytest.mark.parametrize("part_rows", [40, 700, 10_000])
def test_parts_of_any_size_give_the_report_of_the_tables(files: Path, part_rows: int) -> None:
    votes = combine(Votes.read(files / "human.parquet"), Votes.read(files / "proxies.parquet"))
    whole = align(Labels.read(files / "labels.parquet"), votes, Utterances.read(files / "utterances.parquet"), SETTINGS)
    parts = by_files(files, part_rows=part_rows, whole_rows=0)
    kinds = set(whole.findings.frame["kind"])
    assert {"sampled", "no_label", "no_votes", "proxy_trained_on", "exchange"} <= kinds
    assert parts.findings.frame.equals(whole.findings.frame)
    assert canonical_json(parts.metrics) == canonical_json(whole.metrics)
    assert parts.page.html() == whole.page.html()


def test_files_that_are_not_sorted_are_held_in_memory_and_give_the_same_report(files: Path, tmp_path: Path) -> None:
    for path in files.glob("*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    votes = Votes.read(files / "human.parquet")
    shuffled = votes.frame.sample(fraction=1.0, shuffle=True, seed=3)
    shuffled.write_parquet(tmp_path / "human.parquet")
    with pytest.raises(AlmProxiesError, match="taxonomy"):
        by_files(tmp_path, whole_rows=0)
    kept = combine(Votes.of(shuffled, taxonomy=LABELS), Votes.read(files / "proxies.parquet"))
    people = Utterances.read(files / "utterances.parquet")
    votes_files = [tmp_path / "human.parquet", tmp_path / "proxies.parquet"]
    given = (tmp_path / "labels.parquet", votes_files, tmp_path / "utterances.parquet", tmp_path / "report.html")
    named = align_files(*given, SETTINGS, taxonomy=",".join(LABELS), quiet=True, whole_rows=0)
    whole = align(Labels.read(files / "labels.parquet"), kept, people, SETTINGS)
    assert named.page.html() == whole.page.html()


def test_labels_that_saw_held_out_votes_are_refused_part_by_part(files: Path, tmp_path: Path) -> None:
    for path in files.glob("*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    labels = Labels.read(files / "labels.parquet")
    seen = Labels(labels.frame.with_columns(human_votes=pl.col("human_votes") + 2), labels.about)
    seen.write(tmp_path / "labels.parquet")
    with pytest.raises(InputError, match=f"{MANY} of the {MANY} labels to be scored .* use more human votes"):
        by_files(tmp_path, part_rows=40, whole_rows=0)


def test_an_annotator_that_is_human_in_one_part_and_a_proxy_in_another_is_refused(files: Path, tmp_path: Path) -> None:
    for path in files.glob("*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    mixed = human().frame.with_columns(
        source=pl.when(pl.col("utterance_id") > "c/00200").then(pl.lit("proxy")).otherwise(pl.lit("human")),
        held_out=pl.lit(False),
    )
    assert mixed["source"].n_unique() == 2
    mixed.write_parquet(tmp_path / "human.parquet")
    given = (tmp_path / "labels.parquet", [tmp_path / "human.parquet"], tmp_path / "utterances.parquet", tmp_path / "r")
    for part_rows in (30, 100_000):
        with pytest.raises(AlmProxiesError, match="both as human and as proxy"):
            align_files(*given, SETTINGS, taxonomy=",".join(LABELS), quiet=True, part_rows=part_rows, whole_rows=0)


def test_a_table_in_memory_is_looked_at_some_utterances_at_a_time() -> None:
    votes = proxies()
    parts = list(in_parts(votes, 50))
    assert [part.frame["utterance_id"].n_unique() for part in parts] == [50] * 5 + [10]
    again = pl.concat([part.frame for part in parts]).sort(Votes.KEY)
    assert again.equals(votes.frame.sort(Votes.KEY))

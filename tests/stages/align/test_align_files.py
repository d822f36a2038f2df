"""The report of files read part by part is the report of the tables, to the byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.files import canonical_json
from alm_proxies.progress import Progress
from alm_proxies.stages.align.files import align_files
from alm_proxies.stages.align.overview import in_parts
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.table_files import load_table
from alm_proxies.tables import About, AnnotatorCard, Labels, Utterances, Votes, combine
from alm_proxies.votes_parts import VotesInParts, read_in_parts

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


@pytest.fixture(scope="module")
def of_tables(files: Path) -> Alignment:
    """The report on the tables in memory."""
    votes = combine(Votes.read(files / "human.parquet"), Votes.read(files / "proxies.parquet"))
    return align(Labels.read(files / "labels.parquet"), votes, Utterances.read(files / "utterances.parquet"), SETTINGS)


@pytest.mark.parametrize("part_rows", [40, 700, 10_000])
def test_parts_of_any_size_give_the_report_of_the_tables(files: Path, of_tables: Alignment, part_rows: int) -> None:
    parts = by_files(files, part_rows=part_rows, whole_rows=0)
    kinds = set(of_tables.findings.frame["kind"])
    assert {"sampled", "no_label", "no_votes", "proxy_trained_on", "exchange"} <= kinds
    assert parts.findings.frame.equals(of_tables.findings.frame)
    assert canonical_json(parts.metrics) == canonical_json(of_tables.metrics)
    assert parts.page.html() == of_tables.page.html()


def in_shape(shape: str, path: Path, folder: Path) -> Path:
    """The votes of a file as another kind of file, with their rows in another order unless it says sorted."""
    frame = pl.read_parquet(path)
    frame = frame.select([name for name in frame.columns if frame[name].null_count() < frame.height])
    if "sorted" not in shape:
        frame = frame.sample(fraction=1.0, shuffle=True, seed=3)
    ending = next((kind for kind in ("csv", "jsonl") if kind in shape), "parquet")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"votes.{ending}"
    if "categories" in shape:
        frame = frame.with_columns(pl.col("utterance_id").cast(pl.Categorical))
    write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending]
    write(target)
    return target


def report(files: Path, folder: Path, shape: str, **limits: int) -> Alignment:
    """The report on the votes in a shape; both files have the same name."""
    votes = [in_shape(shape, files / f"{name}.parquet", folder / shape / name) for name in ("human", "proxies")]
    given = (files / "labels.parquet", votes, files / "utterances.parquet", folder / "report.html")
    return align_files(*given, SETTINGS, taxonomy=",".join(LABELS), quiet=True, **limits)


@pytest.fixture(scope="module")
def whole(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Alignment:
    """The report on sorted files that are held whole."""
    return report(files, tmp_path_factory.mktemp("whole"), "sorted", whole_rows=10**6)


@pytest.mark.parametrize(
    ("shape", "limits"),
    [
        ("parquet", {"part_rows": 150, "whole_rows": 0}),
        ("csv", {"part_rows": 700, "whole_rows": 0}),
        ("csv", {"whole_rows": 10**6}),
        ("sorted csv", {"part_rows": 80, "whole_rows": 0}),
        ("jsonl", {"part_rows": 150, "whole_rows": 0}),
        ("categories", {"part_rows": 700, "whole_rows": 0}),
    ],
)
def test_files_of_any_kind_in_any_order_give_the_same_report(
    files: Path, tmp_path: Path, whole: Alignment, shape: str, limits: dict[str, int]
) -> None:
    aligned = report(files, tmp_path, shape, **limits)
    is_copy = pl.col("kind") == "sorted_copy"
    assert aligned.findings.frame.filter(~is_copy).equals(whole.findings.frame)
    copies = aligned.findings.frame.filter(is_copy)
    assert copies.height == (2 if not limits["whole_rows"] and "sorted" not in shape else 0)
    assert copies["message"].str.contains("made to report on it a part at a time").all()
    assert canonical_json(aligned.metrics) == canonical_json(whole.metrics)
    assert aligned.page.html() == whole.page.html()
    assert not list(tmp_path.glob(".*"))


def test_votes_without_draws_are_numbered_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [(f"c/{place % 7}", f"r{place % 2}", LABELS[place % 3]) for place in range(80)]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "label"], orient="row")
    frame.write_csv(tmp_path / "votes.csv")
    big = VotesInParts((tmp_path / "votes.csv",), None, ",".join(LABELS), (), 10)
    read = read_in_parts(
        big, tmp_path, lambda votes: [part for part, _ in votes.parts(Progress("", quiet=True))], quiet=True
    )
    assert len(read) > 3
    together = pl.concat([part.frame for part in read]).sort(Votes.KEY)
    assert together.equals(Votes.of(frame, taxonomy=LABELS).frame.sort(Votes.KEY))


WRONG: list[dict[str, object]] = [
    {"label": "cheerful"},
    {"utterance_id": None},
    {"weight": 1.5},
    {"annotator": None},
    {"draw": -1},
    {"source": "machine"},
    {"status": "refused"},
]


@pytest.mark.parametrize("shape", ["sorted", "parquet", "csv", "jsonl"])
@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_row_is_refused_in_the_words_of_a_small_file(
    files: Path, tmp_path: Path, shape: str, change: dict[str, object]
) -> None:
    few = pl.read_parquet(files / "human.parquet").filter(pl.col("utterance_id") < "c/00050")
    few.write_parquet(tmp_path / "few.parquet")
    path = in_shape(shape, tmp_path / "few.parquet", tmp_path / "right")
    text, kept = Votes.text_columns(), path.with_name("wrong" + path.suffix)
    frame = load_table(path, text)[0]
    last = pl.int_range(pl.len()) == frame.height - 20
    for name, value in change.items():
        frame = frame.with_columns(pl.when(last).then(pl.lit(value)).otherwise(pl.col(name)).alias(name))
    {".csv": frame.write_csv, ".jsonl": frame.write_ndjson}.get(path.suffix, frame.write_parquet)(kept)
    messages = []
    for limits in ({"whole_rows": 10**6}, {"whole_rows": 0, "part_rows": 30}, {"whole_rows": 0, "part_rows": 120}):
        given = (files / "labels.parquet", [kept], files / "utterances.parquet", tmp_path / "report.html")
        with pytest.raises(AlmProxiesError) as caught:
            align_files(*given, SETTINGS, taxonomy=",".join(LABELS), quiet=True, **limits)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] == messages[2]
    assert f"row {frame.height - 19}: " in messages[0]
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_left_beside_the_report_when_it_is_interrupted(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def interrupted(*_: object) -> None:
        seen.extend(tmp_path.glob(".report.html.parts/*/*/*.parquet"))
        raise KeyboardInterrupt

    monkeypatch.setattr("alm_proxies.stages.align.files.aligned", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report(files, tmp_path, "csv", whole_rows=0)
    assert len(seen) == 2
    assert not list(tmp_path.glob(".*"))


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

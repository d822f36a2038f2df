"""Dusha: raw_<domain>_<split>.tsv or .jsonl, one row for each annotator's answer, golden labels apart."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from alm_proxies.audio.folder import SOUNDS
from alm_proxies.cards import Card
from alm_proxies.errors import TableError
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import (
    answered_again,
    consensus_of,
    listing,
    names_in,
    not_the_corpus,
    with_recordings,
)
from alm_proxies.stages.read.formats.dusha import DushaSource
from alm_proxies.stages.read.rows import read_rows
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.splits import split_word
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import Finding

_FILE = re.compile(r"raw_(crowd|podcast)_(train|test)\.(tsv|jsonl)")
_FOLDER = re.compile(r"(crowd|podcast)_(train|test)")
_LOOKED_FOR = "crowd_train/raw_crowd_train.tsv or .jsonl"
_NEEDED = ("hash_id", "annotator_emo", "annotator_id")
_OF_THE_CLIP = ("audio_path", "duration", "golden_emo", "speaker_text", "speaker_emo", "source_id")
_WANTED_BESIDE = ("annotator_emo", "annotator_id", *_OF_THE_CLIP)
_WANTED = ("hash_id", *_WANTED_BESIDE)
_RECORDINGS = ("recording has", "recordings have")


def read_dusha(source: DushaSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The recordings of Dusha with every annotator's vote."""
    files = _files(source.source)
    root = files[0].parent.parent if _FOLDER.fullmatch(files[0].parent.name) else files[0].parent
    frame = pl.concat([_rows(path) for path in files])
    if not frame.height:
        raise TableError("has no rows", where=str(files[0]), fix="Check that it was copied whole.")
    corpus = source.corpus
    findings: list[Finding] = []
    golden = pl.col("golden_emo").is_not_null().any().over("own")
    controls = frame.filter(golden)["own"].n_unique()
    all_clips = frame
    if controls and not source.control_tasks:
        frame = frame.filter(~golden)
        message = f"{counted(controls, 'recording')} with a golden label left out, which controlled the annotators"
        fix = "control_tasks = true (--control-tasks) reads them."
        findings.append(finding("control_tasks", message, fix=fix, where=corpus, count=controls))
    utterances, silent = _utterances(frame, root, files, corpus, set(all_clips["own"]) - set(frame["own"]))
    nameless = frame.filter(pl.col("annotator_id").is_null())
    rest = "without an annotator left out"
    findings += [*silent, *listing("no_rater", nameless["own"], ("answer", "answers"), rest, corpus)]
    answers = frame.filter(pl.col("annotator_id").is_not_null())
    empty = answers.filter(pl.col("annotator_emo").is_null())["own"]
    findings += listing("empty_label", empty, ("answer has", "answers have"), "no emotion", corpus)
    heard = answers.select(utterance_id="own", annotator="annotator_id", word="annotator_emo", source=pl.lit("human"))
    heard = heard.with_columns(prefixed("utterance_id", corpus), prefixed("annotator", corpus))
    findings += answered_again(heard, corpus)
    known = frame.filter(pl.col("golden_emo").is_not_null()).unique("own", keep="first", maintain_order=True)
    given = known.select(
        utterance_id="own",
        annotator=pl.lit(consensus_of(corpus)),
        word="golden_emo",
        source=pl.lit("human"),
    ).with_columns(prefixed("utterance_id", corpus))
    votes, lost = vocabulary.votes(pl.concat([heard, given]), corpus)
    return Part(utterances, votes, tuple(files), [*findings, *lost], root=root)


def _files(source: Path) -> list[Path]:
    """The raw label files; of a .tsv and a .jsonl of the same name, which hold the same rows, the .tsv."""
    if source.is_file():
        if _FILE.fullmatch(source.name):
            return [source]
        raise not_the_corpus(source, "Dusha", _LOOKED_FOR)
    folders = [source, *(source / name for name in names_in(source) if _FOLDER.fullmatch(name))]
    paths = [folder / name for folder in folders for name in names_in(folder) if _FILE.fullmatch(name)]
    if not paths:
        raise not_the_corpus(source, "Dusha", _LOOKED_FOR)
    tables = {path for path in paths if path.suffix == ".tsv"}
    others = [path for path in paths if path.suffix != ".tsv" and path.with_suffix(".tsv") not in tables]
    return sorted([*tables, *others])


def _rows(path: Path) -> pl.DataFrame:
    """A file's rows as text; what is missing is null. Its authors split a .tsv at tabs and quote nothing in it."""
    rows = read_rows(path, _WANTED, quoted=False)
    rows.need(*_NEEDED)
    named = _FILE.fullmatch(path.name)
    assert named is not None
    rows.refuse(rows.frame["hash_id"].is_null(), "hash_id", "is not the id of a recording", "Take the original file.")
    there = [pl.col(name).str.strip_chars().replace("", None) for name in _WANTED if name in rows.columns]
    absent = [pl.lit(None, dtype=pl.String).alias(name) for name in _WANTED if name not in rows.columns]
    own = rows.frame.select(*there, *absent).rename({"hash_id": "own"}).select("own", *_WANTED_BESIDE)
    return own.with_columns(domain=pl.lit(named[1]), split=pl.lit(split_word(named[2])))


def _utterances(
    frame: pl.DataFrame, root: Path, files: list[Path], corpus: str, left_out: set[str]
) -> tuple[pl.DataFrame, list[Finding]]:
    """The recordings: what was acted in the crowd's part is `intended`, never a vote."""
    stated = pl.col("domain", "split", *_OF_THE_CLIP).drop_nulls()
    clips = frame.group_by("own", maintain_order=True)
    first = clips.agg(stated.first())
    there: dict[str, str] = {}
    for folder in dict.fromkeys(path.parent for path in files):
        inside = (folder / "wavs").relative_to(root).as_posix()
        there |= {Path(name).stem: f"{inside}/{name}" for name in names_in(folder / "wavs", SOUNDS)}
    there = {own: path for own, path in there.items() if own not in left_out}
    stem = pl.coalesce(pl.col("audio_path").str.extract(r"([^/\\]+)\.\w+$"), "own")
    utterances = first.select(
        stem.alias("own"),
        (pl.lit(f"{corpus}/") + pl.col("own")).alias("utterance_id"),
        pl.lit(corpus).alias("corpus"),
        pl.lit("ru").alias("language"),
        (pl.lit(f"{corpus}/") + pl.col("domain") + "/" + pl.col("source_id")).alias("speaker"),
        pl.col("speaker_text").alias("transcript"),
        pl.col("speaker_emo").alias("intended"),
        pl.col("duration").cast(pl.Float64, strict=False).alias("duration"),
        "split",
        "domain",
    )
    long = pl.col("duration").is_finite() & (pl.col("duration") >= 0)
    utterances = utterances.with_columns(duration=pl.when(long).then("duration"))
    odd = first.filter(first["duration"].is_not_null() & utterances["duration"].is_null())["own"]
    findings = listing("missing_number", odd, _RECORDINGS, "a duration that is not a number", corpus)
    parts = frame.group_by("own", maintain_order=True).agg(pl.struct("domain", "split").n_unique().alias("parts"))
    several = parts.filter(pl.col("parts") > 1)["own"]
    rest = "rows in several parts of the corpus, of which the first states the split"
    findings += listing("files_differ", several, _RECORDINGS, rest, corpus)
    values = clips.agg(pl.col(_OF_THE_CLIP).drop_nulls().n_unique())
    for name in _OF_THE_CLIP:
        rest = f"rows that disagree about {name}, of which the first that states it is taken"
        findings += listing("rows_differ", values.filter(pl.col(name) > 1)["own"], _RECORDINGS, rest, corpus)
    utterances, lost = with_recordings(utterances, there, "<part>/wavs/<hash_id>.wav", corpus)
    return utterances, [*findings, *lost]

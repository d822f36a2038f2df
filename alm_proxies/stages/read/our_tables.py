"""Read a folder of tables that alm-proxies wrote or that follow its contract: utterances, votes and soft labels."""

from __future__ import annotations

import polars as pl

from alm_proxies.about import together
from alm_proxies.cards import Card
from alm_proxies.errors import InputError
from alm_proxies.stages.read.formats.tables import READER, TablesSource
from alm_proxies.stages.read.sources import Part, finding
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import Finding, Labels, Utterances, Votes


def read_tables(source: TablesSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The tables as they are; labels outside the wanted taxonomy are mapped like a corpus's words."""
    folder = source.source
    if not folder.is_dir():
        fix = "Name the folder of utterances.parquet and votes.parquet."
        raise InputError("is not a folder of tables", where=str(folder), fix=fix)
    utterances = Utterances.read(folder / "utterances.parquet")
    votes = Votes.read(folder / "votes.parquet")
    paths = [folder / name for name in READER.files]
    soft = Labels.read(paths[2]) if paths[2].is_file() else None
    findings: list[Finding] = []
    frame, labels = votes.frame, soft.frame if soft is not None else None
    if source.map or votes.taxonomy != vocabulary.labels:
        frame, findings = _mapped(frame, vocabulary, str(folder))
    if soft is not None and soft.taxonomy != vocabulary.labels:
        message = f"soft labels over {', '.join(soft.taxonomy)} were not read"
        fix = "Read them with their own taxonomy."
        findings.append(finding("labels_not_taken", message, fix=fix, where=str(paths[2]), count=len(soft)))
        labels = None
    about = together([utterances.about, votes.about])
    inputs = tuple(path for path in paths if path.is_file())
    return Part(utterances.frame, frame, inputs, findings, labels=labels, about=about)


def _mapped(frame: pl.DataFrame, vocabulary: Vocabulary, where: str) -> tuple[pl.DataFrame, list[Finding]]:
    words = pl.when(pl.col("label").is_not_null()).then(pl.concat_list("label"))
    heard = frame.rename({"stated": "_stated"}).with_columns(word=words).drop("label")
    votes, findings = vocabulary.votes(heard, where)
    return votes.with_columns(stated=pl.coalesce("_stated", "stated")).drop("_stated"), findings

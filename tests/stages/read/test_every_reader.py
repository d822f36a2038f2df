"""One suite over every reader there is; a new reader needs a small sample here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from alm_proxies.errors import InputError
from alm_proxies.plugins import plugins
from alm_proxies.stages.read.settings import HoldOut, Reader
from alm_proxies.stages.read.stage import Corpus, ReadSettings, Source, read
from tests.stages.read.audformat_trees import plain as plain_audformat
from tests.stages.read.corpora import (
    plain_emodb,
    plain_iemocap,
    plain_label_studio,
    plain_msp_improv,
    plain_msp_podcast,
)
from tests.stages.read.more_corpora import plain_dusha, plain_emotionlines

LONG = "clip,rater,said,who\n" + "".join(
    f"u{clip},r{rater},{('angry', 'happy', 'sad')[(clip + rater) % 3]},s{clip % 4}\n"
    for clip in range(8)
    for rater in range(4)
)
TABULATED = (
    '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","medianEmoRespNorm"\n'
    + "".join(
        f'"10000{clip}",2,0,0,1,1,0,"100{1 + clip % 4}_{("IEO", "TSI")[clip // 4]}_ANG_XX",4,0.5,"A",NA\n'
        for clip in range(8)
    )
)


def _table(folder: Path) -> Source:
    (folder / "votes.csv").write_text(LONG)
    columns = {"utterance_id": "clip", "annotator": "rater", "label": "said", "speaker": "who"}
    settings = {"format": "table", "source": folder / "votes.csv", "corpus": "mine", "columns": columns}
    return _source(settings)


def _crema_d(folder: Path) -> Source:
    (folder / "tabulatedVotes.csv").write_text(TABULATED)
    return _source({"format": "crema_d", "source": folder})


def _audformat(folder: Path) -> Source:
    audformat = pytest.importorskip("audformat", reason="audformat is a development dependency")
    return _source({"format": "audformat", "source": plain_audformat(audformat, folder), "corpus": "mine"})


def _huggingface(folder: Path) -> Source:
    datasets = pytest.importorskip("datasets", reason="datasets is a development dependency")
    rows = [dict(zip(("clip", "rater", "said", "who"), line.split(","), strict=True)) for line in LONG.split()[1:]]
    datasets.Dataset.from_list(rows).to_parquet(str(folder / "votes.parquet"))
    columns = {"utterance_id": "clip", "annotator": "rater", "label": "said", "speaker": "who"}
    return _source({"format": "huggingface", "source": folder, "corpus": "mine", "columns": columns})


def _tables(folder: Path) -> Source:
    (folder / "raw").mkdir()
    read(_table(folder / "raw"), settings_of("table")).write(folder / "made")
    shutil.rmtree(folder / "raw")
    return _source({"format": "tables", "source": folder / "made"})


def _source(settings: dict[str, object]) -> Source:
    reader = READERS[str(settings["format"])]
    known = {name: value for name, value in settings.items() if name in reader.settings.model_fields}
    return reader.settings.model_validate(known)


READERS: dict[str, Reader] = {name: plugin.load() for name, plugin in plugins("readers").items() if not plugin.origin}
SAMPLES: dict[str, Callable[[Path], Source]] = {
    "table": _table,
    "crema_d": _crema_d,
    "tables": _tables,
    "iemocap": lambda folder: _source({"format": "iemocap", "source": plain_iemocap(folder)}),
    "msp_podcast": lambda folder: _source({"format": "msp_podcast", "source": plain_msp_podcast(folder)}),
    "label_studio": lambda folder: _source(
        {"format": "label_studio", "source": plain_label_studio(folder), "corpus": "mine"}
    ),
    "emodb": lambda folder: _source({"format": "emodb", "source": plain_emodb(folder)}),
    "msp_improv": lambda folder: _source({"format": "msp_improv", "source": plain_msp_improv(folder)}),
    "emotionlines": lambda folder: _source({"format": "emotionlines", "source": plain_emotionlines(folder)}),
    "audformat": _audformat,
    "huggingface": _huggingface,
    "dusha": lambda folder: _source({"format": "dusha", "source": plain_dusha(folder)}),
}
WITHOUT_VOTES = {"ravdess"}
"""Its release holds none: test_read_acted.py."""
every = pytest.mark.parametrize("name", sorted(set(READERS) - WITHOUT_VOTES))


def sample(name: str, folder: Path) -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    return SAMPLES[name](folder)


UNKNOWN = ("table", "label_studio", "audformat", "huggingface")
"""Formats of any corpus, whose labels are not known from a card."""


def settings_of(name: str, **settings: object) -> ReadSettings:
    known = {"taxonomy": ["angry", "happy", "sad"]} if name in UNKNOWN else {}
    return ReadSettings.model_validate(settings | known)


def test_every_reader_has_a_sample() -> None:
    assert set(SAMPLES) == set(READERS) - WITHOUT_VOTES


@every
def test_votes_and_utterances_belong_together_and_carry_the_corpus(name: str, tmp_path: Path) -> None:
    corpus = read(sample(name, tmp_path / "a"), settings_of(name))
    corpora = corpus.utterances.frame["corpus"].unique().to_list()
    assert len(corpus.utterances) == 8
    assert len(corpora) == 1
    ids = corpus.votes.frame["utterance_id"]
    assert ids.is_in(corpus.utterances.frame["utterance_id"].implode()).all()
    assert ids.str.starts_with(f"{corpora[0]}/").all()
    assert corpus.votes.frame["label"].is_in(list(corpus.votes.taxonomy)).all()
    assert len(corpus.votes) == 32
    assert corpus.left_out == 0


@every
def test_the_same_files_give_the_same_tables_wherever_they_lie(name: str, tmp_path: Path) -> None:
    frames = []
    for folder in (tmp_path / "a", tmp_path / "another place" / "ä"):
        corpus = read(sample(name, folder), settings_of(name))
        digests = [table.content_digest() for table in (corpus.votes, corpus.utterances)]
        frames.append((digests, corpus.votes.about.made_by))
    assert frames[0] == frames[1]


@every
def test_held_out_votes_are_as_many_as_asked_for_whatever_the_format(name: str, tmp_path: Path) -> None:
    corpus = read(sample(name, tmp_path / "a"), settings_of(name, hold_out=HoldOut(keep=2)))
    held = corpus.votes.frame.filter(pl.col("held_out")).group_by("utterance_id").len()
    assert held["len"].to_list() == [2] * 8


@every
def test_what_was_written_is_read_back_equal(name: str, tmp_path: Path) -> None:
    corpus: Corpus = read(sample(name, tmp_path / "a"), settings_of(name))
    corpus.write(tmp_path / "out")
    again = read(_source({"format": "tables", "source": tmp_path / "out"}))
    assert again.votes.frame.equals(corpus.votes.frame)
    assert again.utterances.frame.equals(corpus.utterances.frame.sort("utterance_id"))


@every
def test_a_source_that_is_not_there_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    source = sample(name, tmp_path / "a").model_copy(update={"source": tmp_path / "nothing here"})
    with pytest.raises(InputError) as refused:
        read(source, settings_of(name))
    assert "nothing here" in str(refused.value)
    assert refused.value.fix


@every
def test_an_empty_or_foreign_source_is_refused(name: str, tmp_path: Path) -> None:
    source = sample(name, tmp_path / "a")
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            path.write_bytes(os.urandom(64) if path.suffix == ".parquet" else b"\x00\x01")
    with pytest.raises(InputError) as refused:
        read(source, settings_of(name))
    assert refused.value.fix

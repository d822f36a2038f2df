"""Small databases made with audformat itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tests.stages.read.corpora import sound


def _set(table: Any, audformat: Any, name: str, values: list[object], **column: str) -> None:
    table[name] = audformat.Column(**column)
    table[name].set(values)


def rated(audformat: Any, root: Path, storage: str = "csv") -> Path:
    """Two people, a model, a published label; speakers with genders, splits, segments with ratings, counts, shares."""
    base = audformat.Database("made-up", "https://example.org", "research", languages=["en"])
    for rater, kind in (("ann", "human"), ("ben", "human"), ("net", "machine"), ("gold", "ground truth")):
        base.raters[rater] = audformat.Rater(kind)
    base.schemes["emotion"] = audformat.Scheme(labels=["anger", "happiness", "neutral"])
    base.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=5)
    base.schemes["votes"] = audformat.Scheme("int", minimum=0)
    base.schemes["share"] = audformat.Scheme("float", minimum=0, maximum=1)
    base.schemes["noise"] = audformat.Scheme("str")
    base.splits["learn"] = audformat.Split("train")
    base.splits["judge"] = audformat.Split("test")
    base["people"] = audformat.MiscTable(pd.Index(["s1", "s2"], name="speaker", dtype="string"))
    _set(base["people"], audformat, "gender", ["female", "male"])
    base.schemes["speaker"] = audformat.Scheme("str", labels="people")
    files = ["audio/a.wav", "audio/b.wav", "audio/c.wav"]
    base["files"] = audformat.Table(audformat.filewise_index(files))
    _set(base["files"], audformat, "speaker", ["s1", "s2", "s2"], scheme_id="speaker")
    base["emotion.train"] = audformat.Table(audformat.filewise_index(files[:2]), split_id="learn")
    table = base["emotion.train"]
    _set(table, audformat, "first", ["anger", None], scheme_id="emotion", rater_id="ann")
    _set(table, audformat, "activation", [2.0, 5.0], scheme_id="arousal", rater_id="ann")
    _set(table, audformat, "second", ["neutral", "neutral"], scheme_id="emotion", rater_id="ben")
    _set(table, audformat, "net", ["anger", "happiness"], scheme_id="emotion", rater_id="net")
    _set(table, audformat, "gold", ["anger", "neutral"], scheme_id="emotion", rater_id="gold")
    _set(table, audformat, "noise", ["low", "high"], scheme_id="noise")
    counted = audformat.filewise_index(files[1:])
    base["emotion.votes"] = audformat.Table(counted, split_id="judge")
    base["emotion.shares"] = audformat.Table(counted)
    for label, counts, shares in (
        ("anger", [9, 1], [0.75, 0]),
        ("happiness", [0, 0], [0.25, 0]),
        ("neutral", [0, 2], [0, 0]),
    ):
        _set(base["emotion.votes"], audformat, label, counts, scheme_id="votes")
        _set(base["emotion.shares"], audformat, label, shares, scheme_id="share")
    segments = audformat.segmented_index(["audio/c.wav"] * 2, ["0.5s", "1.5s"], ["1.25s", pd.NaT])
    base["parts"] = audformat.Table(segments)
    _set(base["parts"], audformat, "emotion", ["happiness", "anger"], scheme_id="emotion", rater_id="ann")
    base.save(str(root), storage_format=storage)
    for name in files[:2]:
        sound(root / name)
    return root


def plain(audformat: Any, root: Path) -> Path:
    """Eight files with the votes of four people each."""
    base = audformat.Database("plain", "https://example.org", "research")
    words = ("anger", "happiness", "sadness")
    base.schemes["emotion"] = audformat.Scheme(labels=list(words))
    files = audformat.filewise_index([f"{clip}.wav" for clip in range(8)])
    base["emotion"] = audformat.Table(files)
    base["files"] = audformat.Table(files)
    base.schemes["speaker"] = audformat.Scheme("str")
    _set(base["files"], audformat, "speaker", [f"s{clip}" for clip in range(8)], scheme_id="speaker")
    for rater in "abcd":
        base.raters[rater] = audformat.Rater("human")
        values: list[object] = [words[(clip + ord(rater)) % 3] for clip in range(8)]
        _set(base["emotion"], audformat, rater, values, scheme_id="emotion", rater_id=rater)
    base.save(str(root), storage_format="csv")
    return root


def audb_crema_d(audformat: Any, root: Path, *, face: bool = False) -> Path:
    """CREMA-D as audb has it: most frequent answers (two of a tie), their counts, a gold standard, what was acted."""
    base = audformat.Database("crema-d", "https://example.org", "research")
    base.schemes["emotion"] = audformat.Scheme(labels=["anger", "neutral", "no_agreement"])
    base.schemes["emotion.level"] = audformat.Scheme("float", minimum=0, maximum=100)
    base.schemes["votes"] = audformat.Scheme("int", minimum=0)
    files = audformat.filewise_index(["1001/1001_IEO_ANG_HI.wav", "1001/1001_IEO_NEU_XX.wav"])
    answers: dict[str, list[object]] = {"emotion.0": ["anger", "neutral"], "emotion.1": ["neutral", None]}
    table = base["emotion.categories.test"] = audformat.Table(files)
    for name, values in answers.items():
        _set(table, audformat, name, values, scheme_id="emotion")
        _set(table, audformat, f"{name}.level", [50.0, None], scheme_id="emotion.level")
    for name in ("emotion.categories.test.votes", *(["emotion.categories.face.test.votes"] if face else [])):
        table = base[name] = audformat.Table(files)
        _set(table, audformat, "anger", [4, 1], scheme_id="votes")
        _set(table, audformat, "neutral", [4, 9], scheme_id="votes")
    table = base["emotion.categories.test.gold_standard"] = audformat.Table(files)
    _set(table, audformat, "emotion", ["no_agreement", "neutral"], scheme_id="emotion")
    table = base["emotion.categories.desired.test"] = audformat.Table(files)
    _set(table, audformat, "emotion", ["anger", "neutral"], scheme_id="emotion")
    base.save(str(root), storage_format="csv")
    return root


def labels_in_a_table(audformat: Any, root: Path, storage: str = "csv") -> Path:
    """Counts of the votes for labels that a misc table defines."""
    base = audformat.Database("table", "https://example.org", "research")
    words = {"anger": [3, 1], "happiness": [0, 0], "neutral": [1, 2]}
    base["words"] = audformat.MiscTable(pd.Index(list(words), name="word", dtype="string"))
    _set(base["words"], audformat, "valence", ["low", "high", "middle"])
    base.schemes["emotion"] = audformat.Scheme("str", labels="words")
    base.schemes["votes"] = audformat.Scheme("int", minimum=0)
    base["counts"] = audformat.Table(audformat.filewise_index(["a.wav", "b.wav"]))
    for word, counts in words.items():
        _set(base["counts"], audformat, word, list(counts), scheme_id="votes")
    base.save(str(root), storage_format=storage)
    return root

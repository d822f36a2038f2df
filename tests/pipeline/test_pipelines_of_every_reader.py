"""Every reader has a shipped pipeline, and `check` passes it on a synthetic corpus of the reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alm_proxies.files import shipped_folder
from alm_proxies.pipeline.check import check
from alm_proxies.plugins import plugins
from tests.stages.read.audformat_trees import plain as plain_audformat
from tests.stages.read.corpora import (
    emodb,
    msp_improv,
    plain_emodb,
    plain_label_studio,
    plain_msp_improv,
    ravdess,
    sound,
)
from tests.stages.read.more_corpora import plain_dusha, plain_emotionlines

WITHOUT = {"tables"}
"""The tables that alm-proxies wrote are read where a pipeline goes on from them."""
TRIED_ELSEWHERE = {"crema_d", "iemocap", "msp_podcast"}
VOTES = "clip,audio,rater,emotion,speaker\n" + "".join(
    f"u{clip},wav/u{clip}.wav,r{rater},{('angry', 'happy', 'sad', 'fear')[(clip + rater) % 4]},s{clip}\n"
    for clip in range(8)
    for rater in range(4)
)


def _table(folder: Path) -> Path:
    for clip in range(8):
        sound(folder / "wav" / f"u{clip}.wav")
    (folder / "votes.csv").write_text(VOTES)
    return folder / "votes.csv"


def _huggingface(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets", reason="datasets is a development dependency")
    _table(folder)
    head, *lines = VOTES.split()
    rows: list[dict[str, Any]] = [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]
    for row in rows:
        row["audio"] = {"path": row["audio"], "bytes": (folder / row["audio"]).read_bytes()}
    (folder / "set").mkdir()
    data = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    data.to_parquet(str(folder / "set" / "train.parquet"))
    return folder / "set"


def _audformat(folder: Path) -> Path:
    audformat = pytest.importorskip("audformat", reason="audformat is a development dependency")
    plain_audformat(audformat, folder)
    for clip in range(8):
        sound(folder / f"{clip}.wav")
    return folder


def _label_studio(folder: Path) -> Path:
    for task in range(8):
        sound(folder / f"u{task}.wav")
    return plain_label_studio(folder)


def _dusha(folder: Path) -> Path:
    plain_dusha(folder)
    for clip in range(8):
        sound(folder / "crowd_train" / "wavs" / f"h{clip}.wav")
    test = (folder / "crowd_train" / "raw_crowd_train.tsv").read_text().replace("\th", "\tx").replace("\nh", "\nx")
    (folder / "crowd_test").mkdir()
    (folder / "crowd_test" / "raw_crowd_test.tsv").write_text(test)
    return folder


def _emotionlines(folder: Path) -> Path:
    plain_emotionlines(folder)
    lines = (folder / "friends.json").read_text()
    for split in ("train", "test"):
        (folder / f"friends_{split}.json").write_text(lines)
    (folder / "friends.json").unlink()
    return folder


def _msp_improv(folder: Path) -> Path:
    path = plain_msp_improv(msp_improv(folder)) / "Evalution.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.replace("A-F01", f"A-F0{1 + number // 5 % 4}") for number, line in enumerate(lines)))
    return folder


TREES: dict[str, Callable[[Path], Path]] = {
    "audformat": _audformat,
    "dusha": _dusha,
    "emodb": lambda folder: plain_emodb(emodb(folder)),
    "emotionlines": _emotionlines,
    "huggingface": _huggingface,
    "label_studio": _label_studio,
    "msp_improv": _msp_improv,
    "ravdess": ravdess,
    "table": _table,
}


def test_every_reader_has_a_pipeline_and_it_is_tried() -> None:
    readers = {name for name, plugin in plugins("readers").items() if not plugin.origin}
    shipped = {path.stem for path in shipped_folder("pipelines").glob("*.toml")}
    assert readers - WITHOUT <= shipped
    assert set(TREES) | TRIED_ELSEWHERE == readers - WITHOUT


@pytest.mark.parametrize("name", TREES)
def test_check_passes_a_readers_pipeline_on_a_made_up_tree(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    tree = TREES[name](tmp_path / "corpus")
    checked = check(name, changes={"read.source": str(tree.relative_to(tmp_path))})
    tiny = ("evaluate has nothing to score", "listen needs 20 utterances")
    assert [text for text in checked.problems if not any(words in text for words in tiny)] == []
    facts = " ".join(checked.facts)
    assert ("are held out" in facts) == (name != "ravdess"), checked.facts

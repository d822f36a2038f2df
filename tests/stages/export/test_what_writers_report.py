"""What a format has no place for: its writer says it, and a writer that says something else is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from wording import Wording

import alm_proxies.plugins
from alm_proxies.errors import SettingsError
from alm_proxies.plugins import plugin, plugins, register
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.export.items import Items
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.stages.export.stage import export
from alm_proxies.tables import Labels, Utterances, Votes

Corpus = tuple[Labels, Utterances, Votes]


def test_what_a_format_has_no_place_for_is_a_finding_and_on_the_card(
    corpus: Corpus, tmp_path: Path, wording: Wording
) -> None:
    def findings(name: str, **columns: pl.Expr | pl.Series) -> pl.DataFrame:
        labels = Labels(corpus[0].frame.with_columns(**columns), corpus[0].about)
        settings = plugin("exports", name).load().settings(format=name)
        written = export(labels, corpus[1], tmp_path / f"{name} {len(columns)}", settings)
        card = (written.folder / "README.md").read_text()
        found = written.findings.frame.sort("kind")
        assert all(message in card and stage == "export" for stage, message in found.select("stage", "message").rows())
        return found.select("kind", "message", "count")

    even, rows = pl.lit(1.0), pl.int_range(30)
    unrated = {"valence": pl.when(rows >= 4).then("valence"), "arousal": pl.when(rows != 9).then("arousal")}
    some = findings("odyssey", weight=even, **unrated)
    assert some.select("kind", "count").rows() == [("ratings_aligned", 25), ("without_ratings", 5)]
    no_rating = dict.fromkeys(("valence", "arousal", "dominance"), pl.lit(None, pl.Float64()))
    assert findings("odyssey", weight=even, **no_rating, entropy=pl.col("entropy")).height == 0
    light = {"weight": pl.when(rows < 6).then(0.0).otherwise(1.0)}
    chats, lists, consensus = (findings(name, **light) for name in ("ms_swift", "llama_factory", "emo_superb"))
    assert chats.select("kind", "count").rows() == [("weights_not_written", 30), ("without_a_copy", 6)]
    assert lists.select("kind", "count").rows() == [("without_a_copy", 6)]
    wording(*(message for frame in (some, chats, lists, consensus) for message in frame["message"]))


def test_utterances_that_are_written_twice_count_more_where_a_format_has_no_weights(
    corpus: Corpus, tmp_path: Path, wording: Wording
) -> None:
    labels, utterances = corpus[0], corpus[1]
    halves = {f"p_{name}": 0.5 if place < 2 else 0.0 for place, name in enumerate(labels.taxonomy)}
    row = pl.int_range(pl.len())
    tied = {name: pl.when(row < 3).then(value).otherwise(name) for name, value in halves.items()}

    def finding(ties: str, **more: pl.Expr) -> list[str]:
        some = Labels(labels.frame.with_columns(**tied, **{"weight": pl.lit(1.0), **more}), labels.about)
        settings = ExportSettings(format="s3prl", ties=ties)  # type: ignore[arg-type]
        written = export(some, utterances, tmp_path / f"{ties} {len(more)}", settings)
        return written.findings.frame.filter(kind="weights_not_written")["fix"].to_list()

    assert finding("first") == []
    fixes = [finding("spread"), finding("spread", weight=pl.when(row < 9).then(0.5).otherwise(1.0))]
    assert [len(fix) for fix in fixes] == [1, 1]
    wording(*(fix[0] for fix in fixes))


def test_items_without_a_split_and_those_of_splits_that_a_reader_leaves_out_are_counted(
    corpus: Corpus, tmp_path: Path, wording: Wording
) -> None:
    row = pl.int_range(pl.len())
    split = pl.when(row >= 27).then(pl.lit("test2")).when(row >= 4).then("split")
    some = Utterances(corpus[1].frame.with_columns(split=split), corpus[1].about)
    written = export(corpus[0], some, tmp_path / "some", ExportSettings(format="emo_superb"))
    found = written.findings.frame.filter(pl.col("kind").is_in(["counts_as_train", "split_not_read"]))
    assert found.select("kind", "severity", "count").rows() == [
        ("counts_as_train", "warning", 4), ("split_not_read", "warning", 3),
    ]  # fmt: skip
    wording(*(f"{message}: {fix}" for message, fix in found.select("message", "fix").rows()))
    folds = pl.when(row >= 27).then(pl.lit("fold1")).otherwise("split")
    some = Utterances(corpus[1].frame.with_columns(split=folds), corpus[1].about)
    counts = export(corpus[0], some, tmp_path / "folds", ExportSettings(format="odyssey")).findings.counts()
    assert counts["split_not_read"] == 3
    none = Utterances(corpus[1].frame.with_columns(split=pl.lit(None, pl.String)), corpus[1].about)
    kinds = export(corpus[0], none, tmp_path / "none", ExportSettings(format="emo_superb")).findings.counts()
    assert not kinds.keys() & {"counts_as_train", "split_not_read"}


@pytest.mark.parametrize("given", [(), ["lost"], "done", iter(())])
def test_a_writer_that_gives_something_else_than_findings_is_refused(
    given: object, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_: Items, folder: Path) -> object:
        (folder / "ids.txt").write_text("a")
        return given

    module = ModuleType("odd_writer")
    module.write = write  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_writer", module)
    monkeypatch.setattr(alm_proxies.plugins, "_REGISTERED", {})
    register("exports", "odd", Format("odd", "nobody", "odd_writer:write", needs_audio=False))
    with pytest.raises(SettingsError, match="not a list of findings"):
        export(corpus[0], corpus[1], tmp_path / "out", ExportSettings(format="odd"))
    assert not (tmp_path / "out").exists()
    plugins.cache_clear()


def test_ratings_of_no_stated_scale_which_ranks_are_too_are_counted_by_odyssey(corpus: Corpus, tmp_path: Path) -> None:
    def counted(votes: Votes | None, name: str) -> int:
        settings = ExportSettings(format="odyssey")
        written = export(corpus[0], corpus[1], tmp_path / name, settings, votes=votes)
        return written.findings.counts().get("ratings_aligned", 0)

    scales = {"sim": {"valence": (1.0, 7.0), "arousal": (1.0, 7.0), "dominance": (1.0, 7.0)}}
    linear = Votes(corpus[2].frame, corpus[2].about.with_(scales=scales))
    assert [counted(None, "none"), counted(corpus[2], "ranks"), counted(linear, "linear")] == [30, 30, 0]

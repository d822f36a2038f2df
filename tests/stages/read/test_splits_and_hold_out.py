"""Splits keep a speaker on one side; held-out votes depend on the seed and the utterance alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from wording import Wording

from alm_proxies.ballots import ballots_of, left_out
from alm_proxies.cli.flags import value_of
from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.settings import settings_of
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.hold_out import hold_out
from alm_proxies.stages.read.settings import HoldOut, ReadSettings, shares_of
from alm_proxies.stages.read.splits import split_by_speaker
from alm_proxies.stages.read.stage import Corpus, read
from alm_proxies.tables import Findings, Utterances, Votes


def people(sizes: list[int], unknown: int = 0) -> pl.DataFrame:
    speakers = [f"c/{number}" for number, size in enumerate(sizes) for _ in range(size)] + [None] * unknown
    ids = [f"c/u{number}" for number in range(len(speakers))]
    return pl.DataFrame({"utterance_id": ids, "speaker": pl.Series(speakers, dtype=pl.String)})


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=5, max_size=40),
    rule=st.sampled_from(["speakers:.7,.1,.2", "speakers:.8,.2", "folds:5", "folds:2"]),
    seed=st.integers(0, 5),
)
def test_no_speaker_is_in_two_splits_and_none_is_empty(sizes: list[int], rule: str, seed: int) -> None:
    split, findings = split_by_speaker(people(sizes), rule, seed, "c")
    assert split.group_by("speaker").agg(pl.col("split").n_unique())["split"].unique().to_list() == [1]
    assert sorted(split["split"].unique().to_list()) == sorted(shares_of(rule))
    assert findings == []


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=4, max_size=9), seed=st.integers(0, 3))
def test_no_move_of_a_speaker_brings_the_sizes_nearer(sizes: list[int], seed: int) -> None:
    split, _ = split_by_speaker(people(sizes), "speakers:.7,.3", seed, "c")
    train = split.filter(pl.col("split") == "train")
    target = 0.7 * sum(sizes)
    off = abs(train.height - target)
    for speaker, size in split.group_by("speaker").len().iter_rows():
        inside = speaker in train["speaker"].to_list()
        left = train["speaker"].n_unique() if inside else len(sizes) - train["speaker"].n_unique()
        moved = abs(train.height + (-size if inside else size) - target)
        assert left == 1 or moved >= off - 1e-9


def test_equal_speakers_are_split_exactly_and_by_the_seed() -> None:
    frame = people([10] * 10)
    splits = [split_by_speaker(frame, "speakers:.7,.1,.2", seed, "c")[0] for seed in (1, 1, 2)]
    assert dict(splits[0].group_by("split").len().iter_rows()) == {"train": 70, "development": 10, "test": 20}
    assert splits[0].equals(splits[1])
    assert not splits[0].equals(splits[2])


def test_an_utterance_without_a_speaker_is_in_no_split_and_is_counted() -> None:
    split, findings = split_by_speaker(people([3, 3], unknown=2), "folds:2", 0, "c")
    assert split["split"].null_count() == 2
    assert [(finding.kind, finding.count) for finding in findings] == [("unknown_speaker", 2)]


def test_a_split_that_was_there_is_replaced_and_said() -> None:
    frame = people([3, 3]).with_columns(split=pl.lit("train"))
    split, findings = split_by_speaker(frame, "folds:2", 0, "c")
    assert set(split["split"].to_list()) == {"fold1", "fold2"}
    assert [finding.kind for finding in findings] == ["split_replaced"]


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=6, max_size=12), more=st.lists(st.integers(1, 30), max_size=6))
def test_speakers_of_an_earlier_split_keep_theirs_when_others_come(sizes: list[int], more: list[int]) -> None:
    before, _ = split_by_speaker(people(sizes), "speakers:.7,.1,.2", 3, "c")
    kept = dict(before.select("speaker", "split").unique().iter_rows()) | {"c/gone": "test"}
    after, _ = split_by_speaker(people([size + 1 for size in sizes] + more), "speakers:.7,.1,.2", 3, "c", kept)
    now = dict(after.select("speaker", "split").unique().iter_rows())
    assert {speaker: now[speaker] for speaker in kept if speaker != "c/gone"} == {
        speaker: split for speaker, split in kept.items() if speaker != "c/gone"
    }
    assert len(now) == len(sizes) + len(more)


def grown(tmp_path: Path, **more: Any) -> Corpus:
    """A corpus of ten speakers, and twelve in its second week."""
    week = [f"{speaker}u{n},{speaker},r{n},sad" for speaker in "abcdefghij" for n in range(3)]
    further = [f"{speaker}u{n},{speaker},r{n},sad" for speaker in "kla" for n in range(5, 9)]
    path = tmp_path / "votes.csv"
    path.write_text("\n".join(["clip,who,rater,heard", *week, *(further if more else [])]) + "\n")
    columns = {"utterance_id": "clip", "speaker": "who", "annotator": "rater", "label": "heard"}
    source = TableSource(source=path, corpus="c", columns=columns, split="speakers:.6,.2,.2", **more)
    return read(source, ReadSettings(taxonomy=("happy", "sad")))


def splits_of(corpus: Corpus) -> dict[str, str]:
    return dict(corpus.utterances.frame.select("speaker", "split").unique().iter_rows())


def test_a_grown_corpus_keeps_the_split_of_the_table_that_is_named(tmp_path: Path) -> None:
    before = grown(tmp_path)
    before.write(tmp_path / "before")
    after = splits_of(grown(tmp_path, keep_splits=tmp_path / "before"))
    assert {speaker: after[speaker] for speaker in splits_of(before)} == splits_of(before)
    assert len(after) == 12
    (tmp_path / "own.csv").write_text("speaker,split\na, test\n c/b ,development\nc,\n")
    after = splits_of(grown(tmp_path, keep_splits=tmp_path / "own.csv"))
    assert (after["c/a"], after["c/b"]) == ("test", "development")
    assert set(after.values()) == {"train", "development", "test"}


def test_a_table_of_several_corpora_keeps_the_split_of_one_whatever_the_splits_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("speaker,split\nc/a,test\nd/a,test2\nd/b,fold1\nd/b,fold2\n")
    assert splits_of(grown(tmp_path, keep_splits=tmp_path / "all.csv"))["c/a"] == "test"


def test_kept_splits_that_cannot_be_kept_are_refused(tmp_path: Path, wording: Wording) -> None:
    of_another = "speaker,split\nd/a,test\nd/b,train\n"
    for text in ("speaker,split\na,fold1\n", "speaker,split\na,test\nc/a,train\n", "who,split\na,test\n", of_another):
        (tmp_path / "own.csv").write_text(text)
        with wording.refused(TableError):
            grown(tmp_path, keep_splits=tmp_path / "own.csv")
    with pytest.raises(ValidationError, match="keep_splits goes with a split by speaker"):
        TableSource(source=tmp_path / "own.csv", corpus="c", keep_splits=tmp_path / "own.csv")


def test_fewer_speakers_than_splits_are_refused() -> None:
    with pytest.raises(InputError, match="only 2 speakers are known"):
        split_by_speaker(people([3, 3]), "folds:3", 0, "c")
    with pytest.raises(InputError, match="speakers are not known"):
        split_by_speaker(people([], unknown=3), "folds:2", 0, "c")


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "folds",
        "folds:1",
        "folds:2.5",
        "folds:2,3",
        "speakers:.7",
        "speakers:.5,.6",
        "speakers:1,0",
        "speakers:..,1",
    ],
)
def test_a_split_that_makes_no_sense_is_refused_with_the_mend(rule: str) -> None:
    with pytest.raises(SettingsError) as caught:
        shares_of(rule)
    assert "speakers:.7,.1,.2" in str(caught.value)
    with pytest.raises(ValidationError, match="folds:5"):
        TableSource.model_validate({"source": "x", "split": rule})


def crowd(sizes: dict[str, int], *, consensus: bool = False, proxies: int = 0) -> Votes:
    rows = [(utterance, f"c/r{n}", "human", 0, "happy") for utterance, size in sizes.items() for n in range(size)]
    rows += [(utterance, "c/consensus", "human", 0, "happy") for utterance in sizes if consensus]
    rows += [(utterance, "gpt", "proxy", n, "sad") for utterance in sizes for n in range(proxies)]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "source", "draw", "label"], orient="row")
    return Votes.of(frame, taxonomy="iemocap4")


def described(splits: dict[str, str | None]) -> Utterances:
    return Utterances.of(pl.DataFrame({"utterance_id": list(splits), "split": list(splits.values())}))


def held(votes: Votes, wanted: HoldOut, splits: dict[str, str | None], seed: int = 1) -> pl.DataFrame:
    return hold_out(votes, described(splits), wanted, seed)[0].frame.filter("held_out")


def test_a_held_out_split_gives_all_its_human_votes_and_others_keep_a_few() -> None:
    votes = crowd({"a": 5, "b": 5, "c": 2}, proxies=2)
    gone = held(votes, HoldOut(splits=("test",), keep=3), {"a": "test", "b": "train", "c": None})
    assert dict(gone.group_by("utterance_id").len().iter_rows()) == {"a": 5, "b": 2}
    assert gone["source"].unique().to_list() == ["human"]


def test_what_is_held_out_depends_on_the_seed_and_the_utterance_alone() -> None:
    wanted = HoldOut(keep=3)
    sizes = {f"u{n}": 6 for n in range(20)}
    together = held(crowd(sizes), wanted, dict.fromkeys(sizes))
    alone = held(crowd({"u7": 6}), wanted, {"u7": None})
    assert together.filter(pl.col("utterance_id") == "u7").equals(alone)
    assert not together.equals(held(crowd(sizes), wanted, dict.fromkeys(sizes), seed=2))
    shuffled = Votes.of(crowd(sizes).frame.sample(fraction=1, shuffle=True, seed=3), taxonomy="iemocap4")
    again = held(shuffled, wanted, dict.fromkeys(sizes))
    assert again.sort("utterance_id", "annotator").equals(together.sort("utterance_id", "annotator"))


def test_every_vote_has_the_same_chance_of_being_held_out() -> None:
    sizes = {f"u{n}": 5 for n in range(2000)}
    gone = held(crowd(sizes), HoldOut(keep=3), dict.fromkeys(sizes))
    shares = gone.group_by("annotator").len()["len"] / 2000
    assert all(abs(share - 0.4) < 0.05 for share in shares)


def test_a_draw_with_several_rows_is_held_out_whole() -> None:
    rows = [("a", f"c/r{n}", 0, label, 0.5) for n in range(4) for label in ("happy", "sad")]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "draw", "label", "weight"], orient="row")
    gone = held(Votes.of(frame, taxonomy="iemocap4"), HoldOut(keep=1), {"a": None})
    assert gone.height == 6
    assert gone.group_by("annotator").len()["len"].unique().to_list() == [2]


def test_no_answer_of_a_rater_is_held_out_while_another_on_the_same_utterance_is_fitted() -> None:
    """They were drawn one by one: second answers, and second labels that count as a vote, were on either side."""
    rows = [("a", f"c/r{n}", "happy") for n in range(4) for _ in range(n + 1)]
    votes = Votes.of(
        pl.DataFrame(rows, schema=["utterance_id", "annotator", "label"], orient="row"), taxonomy="iemocap4"
    )
    for seed in range(20):
        gone = held(votes, HoldOut(keep=2), {"a": None}, seed)
        raters = gone["annotator"].unique().to_list()
        assert len(raters) == 2
        assert gone.height == votes.frame.filter(pl.col("annotator").is_in(raters)).height


def test_as_many_labels_are_kept_as_asked_for_however_many_ratings_lie_beside_them() -> None:
    """Evaluators of IEMOCAP rate in lines of their own: ratings took the places of labels, and some turns kept none."""
    named = [(f"u{n}", f"c/C-E{e}", "happy") for n in range(50) for e in range(3)]
    rated = [(f"u{n}", f"c/A-E{e}", 0.5) for n in range(50) for e in range(4)]
    schema = ["utterance_id", "annotator"]
    frames = [
        pl.DataFrame(named, schema=[*schema, "label"], orient="row"),
        pl.DataFrame(rated, schema=[*schema, "valence"], orient="row"),
    ]
    frame = pl.concat(frames, how="diagonal")
    gone = held(Votes.of(frame, taxonomy="iemocap4"), HoldOut(keep=2), {f"u{n}": None for n in range(50)})
    each = gone.group_by("utterance_id").agg(pl.col("label").count().alias("labels"), pl.col("valence").count())
    assert each.select("labels", "valence").unique().rows() == [(1, 2)]
    assert held(crowd({"a": 2}), HoldOut(keep=3, splits=("test",)), {"a": "test"}).height == 2, "no vote is left"


def test_a_consensus_is_no_vote_and_goes_with_the_votes_behind_it() -> None:
    gone = held(crowd({"a": 4, "b": 3}, consensus=True), HoldOut(keep=3), {"a": None, "b": None})
    assert sorted(gone["annotator"].to_list())[:1] == ["c/consensus"]
    assert gone["utterance_id"].to_list() == ["a", "a"]
    only = held(crowd({"a": 0}, consensus=True), HoldOut(keep=1), {"a": None})
    assert only.height == 0


def test_held_out_consensus_labels_are_counted_apart_from_votes_by_every_stage() -> None:
    votes, findings = hold_out(
        crowd({"a": 4, "b": 3, "c": 5}, consensus=True), described(dict.fromkeys("abc")), HoldOut(keep=3), 1
    )
    message = "3 human votes of 2 utterances are held out, and 2 published consensus labels, which are not votes"
    assert (findings[0].message, findings[0].count) == (message, 3)
    assert len(ballots_of(votes, pl.Series(["a", "b", "c"]), "held_out").rows) == 3
    assert {known.kind: known.count for known in left_out(votes)} == {"held_out": 3, "consensus": 3}
    assert {known.kind: known.count for known in left_out(votes, consensus=True)} == {"held_out": 5}
    assert Corpus(described(dict.fromkeys("abc")), votes, Findings.gather(findings)).counts["votes"] == 12


def test_an_unknown_split_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'test'"):
        hold_out(crowd({"a": 1}), described({"a": "test"}), HoldOut(splits=("tset",)), 0)


def test_utterances_with_nothing_to_score_them_are_counted() -> None:
    _, findings = hold_out(crowd({"a": 3, "b": 4}), described({"a": None, "b": None}), HoldOut(keep=3), 0)
    assert [(finding.kind, finding.count) for finding in findings] == [("held_out", 1), ("not_scored", 1)]
    assert findings[1].severity == "info"
    _, findings = hold_out(crowd({"a": 3, "b": 2}), described({"a": None, "b": None}), HoldOut(keep=3), 0)
    assert [(finding.kind, finding.count) for finding in findings] == [("held_out", 0), ("nothing_held_out", 2)]
    assert findings[1].severity == "problem"


def test_the_command_line_says_the_same() -> None:
    def parsed(*words: str) -> HoldOut:
        return settings_of(HoldOut, value_of(HoldOut, words, "--hold-out"), "--hold-out")

    assert parsed("keep=3") == HoldOut(keep=3)
    assert parsed("splits=test,test2,keep=0") == parsed("keep=0", "splits=test,test2")
    assert parsed("splits=test,test2,keep=0") == HoldOut(splits=("test", "test2"), keep=0)
    for wrong in ("", "3", "keep", "keep=", "keep=-1", "keep=x", "keep=1,keep=2", "split=test"):
        with pytest.raises(SettingsError):
            parsed(wrong)


def test_an_utterance_whose_speaker_is_stated_as_unknown_is_counted_once_where_it_is_in_no_split(
    tmp_path: Path,
) -> None:
    (tmp_path / "t.csv").write_text("id,who\na,Unknown\nb,1\nc,2\nd,\n")
    source = TableSource(
        source=tmp_path / "t.csv", corpus="c", columns={"utterance_id": "id", "speaker": "who"}, split="folds:2"
    )
    findings = read(source, ReadSettings(taxonomy="crema6")).findings.frame
    unknown = findings.filter(pl.col("kind") == "unknown_speaker")
    assert unknown.select("severity", "count").rows() == [("warning", 2)]
    alone = read(source.model_copy(update={"split": None}), ReadSettings(taxonomy="crema6")).findings
    assert alone.counts()["unknown_speaker"] == 2

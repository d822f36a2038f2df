"""A grown corpus keeps the held-out votes of the earlier table that is named, whatever votes came or went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wording import Wording

from alm_proxies.errors import InputError
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.formats.tables import TablesSource
from alm_proxies.stages.read.hold_out import hold_out
from alm_proxies.stages.read.kept_votes import Earlier
from alm_proxies.stages.read.settings import HoldOut, ReadSettings, Source
from alm_proxies.stages.read.stage import Corpus, read
from alm_proxies.tables import Finding, Utterances, Votes

LABELS = ("happy", "neutral", "sad")
Row = tuple[Any, ...]


def votes_of(rows: list[Row], *more: str) -> Votes:
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "label", *more], orient="row")
    return Votes.of(frame, taxonomy=LABELS)


def again(
    now: Votes, before: Votes, wanted: HoldOut | None, *, seed: int = 1, splits: dict[str, str] | None = None
) -> tuple[pl.DataFrame, dict[str, int], list[Finding]]:
    ids = now.frame["utterance_id"].unique().sort().to_list()
    people = Utterances.of(pl.DataFrame({"utterance_id": ids, "split": [(splits or {}).get(name) for name in ids]}))
    held, findings = hold_out(now, people, wanted, seed, Earlier(before.frame, "week1.parquet"))
    return held.frame, {finding.kind: finding.count for finding in findings}, findings


def first(votes: Votes, wanted: HoldOut, seed: int = 1) -> Votes:
    people = Utterances.of(votes.frame.select("utterance_id").unique())
    return hold_out(votes, people, wanted, seed)[0]


def raters(frame: pl.DataFrame, held_out: bool) -> set[Row]:
    return set(frame.filter(pl.col("held_out") == held_out).select("utterance_id", "annotator").iter_rows())


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4)), min_size=1, max_size=6),
    keep=st.integers(0, 4),
    seed=st.integers(0, 3),
)
def test_votes_that_came_move_none_of_those_before_and_any_seed_will_do(
    sizes: list[tuple[int, int]], keep: int, seed: int
) -> None:
    # the raters that came are first by name, so that they are in the middle of what the seed draws from
    rows = [
        [(f"u{n}", f"c/r{place:02}", LABELS[place % 3]) for place in range(8, 8 - size - more, -1)]
        for n, (size, more) in enumerate(sizes)
    ]
    old = [row for own, (size, _) in zip(rows, sizes, strict=True) for row in own[:size]]
    before = first(votes_of(old or [("u0", "c/r08", "sad")]), HoldOut(keep=keep))
    everything = [("u0", "c/r08", "sad"), ("new", "c/r1", "sad"), *(row for own in rows for row in own)]
    everything = list({row[:2]: row for row in everything}.values())
    now, kinds, _ = again(votes_of(everything), before, HoldOut(keep=keep), seed=seed)
    assert raters(before.frame, held_out=True) <= raters(now, held_out=True)
    assert raters(before.frame, held_out=False) <= raters(now, held_out=False)
    of_each = now.group_by("utterance_id").agg((~pl.col("held_out")).sum(), votes=pl.len())
    assert all(fitted == min(keep, count) for _, fitted, count in of_each.iter_rows())
    assert not kinds.keys() & {"held_out_moved", "held_out_lost", "held_out_stays"}


def test_the_earlier_draw_is_the_same_as_without_an_earlier_table_where_no_vote_came() -> None:
    votes = votes_of([(f"u{n}", f"c/r{place}", "sad") for n in range(30) for place in range(6)])
    before = first(votes, HoldOut(keep=3))
    assert again(votes, before, HoldOut(keep=3), seed=9)[0].equals(before.frame)
    other = votes_of([("else", "c/r1", "sad")])
    assert again(votes, other, HoldOut(keep=3))[0].equals(before.frame)


def crowd(labels: str, name: str = "a") -> list[Row]:
    """Votes without raters, as a table of counts has them: in the order of the labels."""
    words = {label[0]: label for label in LABELS}
    return [(name, "c/crowd", words[letter]) for letter in sorted(labels)]


def counts(frame: pl.DataFrame, held_out: bool) -> dict[str, int]:
    return dict(frame.filter(pl.col("held_out") == held_out).group_by("label").len().iter_rows())


@settings(max_examples=60, deadline=None)
@given(old=st.text("hns", min_size=1, max_size=7), more=st.text("hns", max_size=4), seed=st.integers(0, 3))
def test_votes_without_raters_keep_their_side_by_label_and_number(old: str, more: str, seed: int) -> None:
    before = first(votes_of(crowd(old)), HoldOut(keep=3))
    now, _, _ = again(votes_of(crowd(old + more)), before, HoldOut(keep=3), seed=seed)
    for side in (True, False):
        there = counts(now, side)
        assert all(there.get(label, 0) >= number for label, number in counts(before.frame, side).items())
    assert now.filter(~pl.col("held_out")).height == min(3, len(old + more))


def test_of_votes_without_raters_the_held_out_ones_are_those_that_are_left() -> None:
    before = votes_of(crowd("hsss"))
    before = Votes(before.frame.with_columns(held_out=pl.Series([False, False, False, True])), before.about)
    now, kinds, _ = again(votes_of(crowd("hs")), before, HoldOut(keep=3))
    assert (counts(now, held_out=True), counts(now, held_out=False)) == ({"sad": 1}, {"happy": 1})
    assert kinds["held_out_stays"] == 1
    assert "held_out_lost" not in kinds


def test_ratings_tell_votes_of_one_label_without_raters_apart() -> None:
    before = votes_of([("a", "c/crowd", "sad", 0.2), ("a", "c/crowd", "sad", 0.8)], "valence")
    before = Votes(before.frame.with_columns(held_out=pl.Series([False, True])), before.about)
    rows = [("a", "c/crowd", "sad", value) for value in (0.8, 0.5, 0.2)]
    now, _, _ = again(votes_of(rows, "valence"), before, HoldOut(keep=2))
    assert now.filter("held_out")["valence"].to_list() == [0.8]


def test_votes_without_raters_whose_ratings_are_on_another_scale_are_found_by_their_order() -> None:
    # align_ratings = "rank" writes ranks, while those of the source are on its scale
    before = votes_of([("a", "c/crowd", "sad", value) for value in (0.7, 0.1, 0.3)], "valence")
    before = Votes(before.frame.with_columns(held_out=pl.Series([False, True, False])), before.about)
    rows = [("a", "c/crowd", "sad", value) for value in (0.9, 0.2, 0.4)]
    now, kinds, _ = again(votes_of(rows, "valence"), before, HoldOut(keep=2))
    assert now.filter("held_out")["valence"].to_list() == [0.2]
    assert kinds == {"held_out": 1, "held_out_kept": 1}


def test_draws_of_several_rows_stay_whole_and_votes_of_proxies_are_none_of_them() -> None:
    def rows(count: int) -> list[Row]:
        shared = [("a", "c/crowd", "human", n, label, 0.5) for n in range(count) for label in ("happy", "sad")]
        return [*shared, ("a", "c/crowd", "human", count, "sad", 1.0), ("a", "gpt", "proxy", 0, "sad", 1.0)]

    def table(count: int) -> Votes:
        names = ["utterance_id", "annotator", "source", "draw", "label", "weight"]
        return Votes.of(pl.DataFrame(rows(count), schema=names, orient="row"), taxonomy=LABELS)

    before = first(table(3), HoldOut(keep=1))
    now, kinds, _ = again(table(5), before, HoldOut(keep=1), seed=3)
    in_the_fit = ~pl.col("held_out") & (pl.col("source") == "human")
    columns = ["label", "weight"]
    assert now.filter(in_the_fit).select(columns).equals(before.frame.filter(in_the_fit).select(columns))
    assert kinds == {"held_out": 5, "held_out_kept": 3}
    assert not now.filter(pl.col("source") == "proxy")["held_out"].any()


def test_a_rater_who_changed_a_label_has_the_same_vote_and_one_who_is_not_known_is_counted(wording: Wording) -> None:
    before = first(votes_of([("a", f"c/r{n}", "sad") for n in range(5)]), HoldOut(keep=3))
    now, kinds, _ = again(votes_of([("a", f"c/r{n}", "happy") for n in range(6)]), before, HoldOut(keep=3), seed=4)
    assert raters(before.frame, held_out=True) < raters(now, held_out=True)
    assert kinds == {"held_out": 3, "held_out_kept": 2}
    before = first(votes_of(crowd("sssss")), HoldOut(keep=3))
    now, kinds, findings = again(votes_of(crowd("hhhhh")), before, HoldOut(keep=3))
    assert counts(now, held_out=True) == {"happy": 2}
    assert kinds == {"held_out": 2, "held_out_kept": 2, "held_out_lost": 2}
    now, kinds, more = again(votes_of(crowd("s")), before, HoldOut(keep=3))
    assert (kinds["held_out_kept"], kinds["held_out_lost"], kinds["held_out_stays"]) == (1, 1, 1)
    wording(*(finding.placed + " " + finding.fix for finding in findings + more))


def test_a_further_answer_of_a_rater_is_on_the_side_of_the_first() -> None:
    rows = [(f"u{n}", f"c/r{rater}", "sad") for n in range(10) for rater in range(4)]
    before = first(votes_of(rows), HoldOut(keep=2))
    for wanted in (HoldOut(keep=2), None):
        now, kinds, _ = again(votes_of([*rows, *rows]), before, wanted, seed=4)
        assert raters(now, held_out=True) == raters(before.frame, held_out=True)
        assert raters(now, held_out=False) == raters(before.frame, held_out=False)
        assert kinds == {"held_out": 40, "held_out_kept": 20}


def test_where_the_fit_is_full_the_finding_says_how_new_votes_get_into_it() -> None:
    rows = [("a", f"c/r{n}", "sad") for n in range(4)]
    before = first(votes_of(rows), HoldOut(keep=2))
    more = votes_of([*rows, *(("a", f"c/r{n}", "happy") for n in range(4, 7))])
    for keep, in_the_fit in ((2, 0), (3, 1)):
        now, _, findings = again(more, before, HoldOut(keep=keep))
        new = now.filter(pl.col("annotator").is_in([f"c/r{n}" for n in range(4, 7)]))
        assert new.filter(~pl.col("held_out")).height == in_the_fit
        (kept,) = (finding for finding in findings if finding.kind == "held_out_kept")
        assert ("raise keep" in kept.fix) == (in_the_fit == 0)


def test_a_published_consensus_goes_with_its_votes_and_is_counted_as_none_of_them() -> None:
    rows = [("a", f"c/r{n}", "sad") for n in range(5)] + [("a", "c/consensus", "sad"), ("b", "c/consensus", "sad")]
    before = first(votes_of(rows), HoldOut(keep=4))
    now, kinds, _ = again(votes_of([*rows, ("a", "c/r5", "sad")]), before, HoldOut(keep=4), seed=5)
    held = now.filter("held_out")
    assert sorted(held["utterance_id"].unique()) == ["a"]
    assert held.height == 3  # two votes, and the consensus of them
    assert kinds == {"held_out": 2, "held_out_kept": 1, "not_scored": 1}


def test_a_held_out_consensus_stays_held_out_where_no_vote_behind_it_counts() -> None:
    rows = [("a", "c/r1", None, "unparsable"), ("a", "c/consensus", "sad", "ok"), ("b", "c/r1", "sad", "ok")]
    votes = votes_of(rows, "status")
    before = Votes(votes.frame.with_columns(held_out=pl.lit(value=True)), votes.about)
    for wanted in (HoldOut(keep=1), None):
        assert again(votes, before, wanted)[0]["held_out"].all()


def test_another_hold_out_than_before_is_stated_and_no_held_out_vote_gets_into_the_fit(wording: Wording) -> None:
    votes = votes_of([(name, f"c/r{n}", "sad") for name in "ab" for n in range(6)])
    before = first(votes, HoldOut(keep=3))
    now, fewer, findings = again(votes, before, HoldOut(keep=2))
    assert raters(before.frame, held_out=True) < raters(now, held_out=True)
    assert fewer == {"held_out": 8, "held_out_kept": 6, "held_out_moved": 2}
    now, more, others = again(votes, before, HoldOut(keep=5))
    assert now.equals(before.frame)
    assert more == {"held_out": 6, "held_out_kept": 6, "held_out_stays": 2}
    _, splits, _ = again(votes, before, HoldOut(splits=("test",)), splits={"a": "test", "b": "train"})
    assert splits == {"held_out": 9, "held_out_kept": 6, "held_out_moved": 3}
    wording(*(finding.placed + " " + finding.fix for finding in findings + others))


def test_without_hold_out_the_votes_of_the_earlier_table_alone_are_held_out_and_those_of_the_source() -> None:
    votes = votes_of([(name, f"c/r{n}", "sad") for name in "abc" for n in range(4)])
    before = first(votes, HoldOut(keep=3))
    own = votes.frame.with_columns(held_out=pl.col("utterance_id") == "c")
    more = pl.concat([own, votes_of([("a", "c/r9", "sad")]).frame])
    now, _, _ = again(Votes(more, votes.about), before, None)
    assert raters(now, held_out=True) == raters(before.frame, held_out=True) | {("c", f"c/r{n}") for n in range(4)}


def lab(folder: Path, weeks: int, corpus: str = "c", **more: Any) -> Source:
    """A lab's votes after one or two weeks: in the second each clip gets a vote, and there are further clips."""
    rows = [f"u{n},r{rater},sad" for n in range(20 * weeks) for rater in range(2 - weeks, 5)]
    path = folder / f"{corpus}{weeks}.csv"
    path.write_text("\n".join(["clip,rater,heard", *rows]) + "\n")
    columns = {"utterance_id": "clip", "annotator": "rater", "label": "heard"}
    return TableSource(source=path, corpus=corpus, columns=columns, **more)


def sets(*sources: Source, keep: int | None = 3) -> Corpus:
    wanted = None if keep is None else HoldOut(keep=keep)
    return read(sources, ReadSettings(taxonomy=LABELS, hold_out=wanted))


def test_a_second_week_keeps_what_the_first_held_out_in_every_corpus_that_names_its_table(tmp_path: Path) -> None:
    before = sets(lab(tmp_path, 1), lab(tmp_path, 1, "d"))
    before.write(tmp_path / "week1")
    drawn_anew = sets(lab(tmp_path, 2), lab(tmp_path, 2, "d"))
    held = raters(before.votes.frame, held_out=True)
    assert len(held - raters(drawn_anew.votes.frame, held_out=True)) > 5
    kept = tmp_path / "week1"
    both = sets(lab(tmp_path, 2, keep_held_out=kept), lab(tmp_path, 2, "d", keep_held_out=kept / "votes.parquet"))
    assert held <= raters(both.votes.frame, held_out=True)
    assert "c/votes.parquet" in str(sorted(both.votes.about.made_by.inputs))  # type: ignore[union-attr]
    new = pl.col("utterance_id").str.extract(r"u(\d+)").cast(pl.Int32) >= 20
    assert both.votes.frame.filter(new).equals(drawn_anew.votes.frame.filter(new))
    only_c = sets(lab(tmp_path, 2, keep_held_out=kept), lab(tmp_path, 2, "d"))
    of_d = pl.col("utterance_id").str.starts_with("d/")
    assert only_c.votes.frame.filter(of_d).equals(drawn_anew.votes.frame.filter(of_d))
    assert only_c.votes.frame.filter(~of_d).equals(both.votes.frame.filter(~of_d))
    assert raters(sets(lab(tmp_path, 2, keep_held_out=kept), keep=None).votes.frame, held_out=True) == {
        row for row in held if row[0].startswith("c/")
    }


def test_splits_that_are_kept_without_the_held_out_votes_are_stated(tmp_path: Path, wording: Wording) -> None:
    rows = [f"u{n},s{n % 6},r{rater},sad" for n in range(12) for rater in range(4)]
    (tmp_path / "votes.csv").write_text("\n".join(["clip,who,rater,heard", *rows]) + "\n")
    columns = {"utterance_id": "clip", "speaker": "who", "annotator": "rater", "label": "heard"}
    plain = {"source": tmp_path / "votes.csv", "corpus": "c", "columns": columns, "split": "speakers:.5,.5"}
    sets(TableSource(**plain)).write(tmp_path / "week1")
    kept = plain | {"keep_splits": tmp_path / "week1"}
    findings = sets(TableSource(**kept)).findings.frame.filter(kind="held_out_drawn_anew")
    assert findings.select("severity", "where").rows() == [("info", "c")]
    wording(findings["message"][0], findings["fix"][0])
    proxy = kept | {"as": "proxy:p", "trained_on_these_votes": "no"}  # its votes are never held out
    for source, keep in ((plain, 3), (kept, None), (kept | {"keep_held_out": tmp_path / "week1"}, 3), (proxy, 3)):
        assert "held_out_drawn_anew" not in sets(TableSource(**source), keep=keep).findings.counts()


def test_held_out_votes_on_utterances_whose_ids_changed_are_counted(tmp_path: Path, wording: Wording) -> None:
    kept = tmp_path / "week1"
    sets(lab(tmp_path, 1), lab(tmp_path, 1, "d")).write(kept)
    source = lab(tmp_path, 2, keep_held_out=kept)
    source.source.write_text(source.source.read_text().replace("u1,", "first,").replace("u2,", "second,"))
    lost = [finding for finding in sets(source).findings.frame.to_dicts() if finding["kind"] == "held_out_lost"]
    assert [finding["count"] for finding in lost] == [2]  # one of each clip, and none of the corpus d
    wording(lost[0]["message"] + " " + lost[0]["fix"])


def test_our_own_tables_and_text_tables_are_earlier_tables_too(tmp_path: Path) -> None:
    sets(lab(tmp_path, 1)).write(tmp_path / "week1")
    sets(lab(tmp_path, 2), keep=None).write(tmp_path / "week2")
    source = TablesSource(source=tmp_path / "week2", corpus="c", keep_held_out=tmp_path / "week1")
    kept = sets(source).votes.frame
    text = Votes.read(tmp_path / "week1" / "votes.parquet").frame.drop("secondary")
    text.write_csv(tmp_path / "week1.csv")
    assert sets(source.model_copy(update={"keep_held_out": tmp_path / "week1.csv"})).votes.frame.equals(kept)


@pytest.mark.parametrize("case", ["none held out", "another corpus", "no file", "a proxy"])
def test_an_earlier_table_that_keeps_nothing_is_refused(case: str, tmp_path: Path, wording: Wording) -> None:
    kept = tmp_path / "week1"
    sets(lab(tmp_path, 1, "d" if case == "another corpus" else "c"), keep=None if case == "none held out" else 3).write(
        kept
    )
    more = {"as": "proxy:p", "trained_on_these_votes": "no"} if case == "a proxy" else {}
    source = lab(tmp_path, 2, keep_held_out=kept if case != "no file" else tmp_path / "week0.parquet", **more)
    with wording.refused(InputError):
        sets(source)

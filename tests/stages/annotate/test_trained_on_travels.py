"""The `trained_on` of an annotator file is stored with its votes, and such votes are not counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.about import About, Measured, together
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.written import annotator_text
from alm_proxies.stages.align.stage import AlignSettings, align
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Utterances, Votes

Make = Callable[..., Any]


def with_people(votes: Votes, utterances: Utterances) -> Votes:
    """The votes, and three human votes on every utterance, one of them held out."""
    rows = [
        (name, f"sim/r{rater}", "human", ("angry", "happy", "sad")[(place + rater) % 3], rater == 2)
        for place, name in enumerate(utterances.frame["utterance_id"])
        for rater in range(3)
    ]
    people = pl.DataFrame(rows, schema=["utterance_id", "annotator", "source", "label", "held_out"], orient="row")
    proxies = votes.frame.select("utterance_id", "annotator", "source", "label", "held_out", "draw")
    return Votes.of(
        pl.concat([people, proxies], how="diagonal_relaxed").with_columns(pl.col("draw").fill_null(0)),
        about=votes.about,
    )


def test_a_later_statement_asks_for_no_vote_again_and_leaves_the_votes_on_these_speakers_out(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(40)
    before = annotate(utterances, [annotator(utterances, votes=4)], tmp_path, AnnotateSettings())
    assert before.votes.about.annotators["scripted"].trained_on is None
    measured = Measured(corpus="elsewhere", nll_per_vote=1.1, class_shares_nll_per_vote=1.5)
    known = annotator(utterances, votes=4, trained_on={"sim": ["sim/0", "sim/1"]}, measured=measured.model_dump())
    after = annotate(utterances, [known], tmp_path, AnnotateSettings())
    assert after.votes.frame.equals(before.votes.frame)
    card = Votes.read(tmp_path / "votes.parquet").about.annotators["scripted"]
    assert (card.trained_on, card.measured) == ({"sim": ["sim/0", "sim/1"]}, measured)
    votes = with_people(after.votes, utterances)
    fused = fuse(votes, FuseSettings(method="pool"), utterances=utterances)
    counted = fused.labels.frame.join(utterances.frame.select("utterance_id", "speaker"), on="utterance_id")
    learned = pl.col("speaker").is_in(["sim/0", "sim/1"])
    assert counted.filter(learned)["proxy_votes"].to_list() == [0.0] * 20
    assert counted.filter(~learned)["proxy_votes"].min() > 0
    fields = ["kind", "where", "count"]
    assert fused.findings.frame.filter(pl.col("kind") == "proxy_trained_on").select(fields).rows() == [
        ("proxy_trained_on", "scripted", 20)
    ]
    aligned = align(fused.labels, votes, utterances, AlignSettings())
    assert "proxy_trained_on" in aligned.findings.counts()


def test_an_annotator_file_that_is_written_is_read_back(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    speakers = {"Mon corpus": ['a "b"', "c\\d", ""], "plain_1": ["é\x7f"]}
    file = annotator(corpus(1), votes=3, trained_on=speakers, cross={"temperature": [0.5, 1.0], "label_orders": 2}).file
    path = tmp_path / "written.toml"
    path.write_text(annotator_text(file, "A comment."), encoding="utf-8")
    assert Annotator.read(path).file == file


def test_two_tables_of_one_annotator_name_all_that_it_was_trained_on(corpus: Make, annotator: Make) -> None:
    utterances = corpus(1)
    parts = [
        About(annotators={"scripted": annotator(utterances, trained_on=trained).card(0)})
        for trained in ({"a": ["a/1"]}, {}, {"a": ["a/2"], "b": [""]})
    ]
    for order in (parts, parts[::-1]):
        assert together(order).annotators["scripted"].trained_on == {"a": ["a/1", "a/2"], "b": [""]}

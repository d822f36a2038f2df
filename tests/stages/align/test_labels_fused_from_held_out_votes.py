"""Labels fused from votes that are held out from them now are refused; honest ones are not, however they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alm_proxies.cli.app import run
from alm_proxies.errors import InputError
from alm_proxies.seeds import generator
from alm_proxies.stages.align.stage import AlignSettings, align
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")
QUICK = AlignSettings(examples=0)
HONEST: dict[str, dict[str, Any]] = {
    "plain": {"method": "gated", "classes": 3},
    "merged secondary labels": {"method": "gated", "classes": 3, "merge": {"primary": 0.7, "secondary": 0.3}},
    "consensus counted": {"method": "human", "consensus": True},
    "Dawid and Skene": {"method": "dawid_skene"},
    "proxies pooled": {"method": "pool"},
}


@pytest.fixture(scope="module")
def corpus() -> tuple[Votes, Utterances]:
    """60 utterances of 20 speakers, five raters, three held out (all five of the first ten), a consensus, a proxy.

    Every third vote shares its weight between two labels, every second names a secondary label, and some failed.
    """
    random = generator(6, "seen")
    rows: list[dict[str, Any]] = []
    for place, share in enumerate(random.dirichlet([0.5] * 3, 60)):
        own = {"utterance_id": f"c/u{place:02}", "source": "human", "held_out": False, "draw": 0, "weight": 1.0}
        for rater in range(5):
            first, second = (LABELS[k] for k in random.choice(3, 2, replace=False, p=(share + 0.05) / 1.15))
            vote = {**own, "annotator": f"c/r{rater}", "held_out": rater >= 2 or place < 10}
            vote["secondary"] = [second] if rater % 2 else None
            if rater % 3 == 0:
                rows.append({**vote, "label": first, "weight": 1 / 3})
                rows.append({**vote, "label": second, "weight": 2 / 3})
            else:
                rows.append({**vote, "label": first})
        rows.append({**own, "annotator": "c/r9", "label": None, "status": "failed"})
        rows.append({**own, "annotator": "c/consensus", "label": LABELS[int(share.argmax())]})
        rows.append({**own, "annotator": "alm", "source": "proxy", "label": LABELS[int(random.choice(3, p=share))]})
    schema = {"secondary": pl.List(pl.String), "status": pl.String}
    frame = pl.DataFrame(rows, schema_overrides=schema).with_columns(pl.col("status").fill_null("ok"))
    people = pl.DataFrame(
        {
            "utterance_id": [f"c/u{place:02}" for place in range(60)],
            "speaker": [f"c/s{place % 20}" for place in range(60)],
        }
    )
    return Votes.of(frame, taxonomy=LABELS), Utterances.of(people)


def in_full(votes: Votes) -> Votes:
    return Votes.of(votes.frame.with_columns(held_out=pl.lit(False)), about=votes.about)


@pytest.mark.parametrize("name", HONEST)
def test_honest_labels_are_reported_on_however_votes_were_counted(corpus: tuple[Votes, Utterances], name: str) -> None:
    labels = fuse(corpus[0], FuseSettings(**HONEST[name]), utterances=corpus[1]).labels
    report = align(labels, *corpus, QUICK)
    assert report.metrics["scores"] is not None
    assert "votes_missing" not in report.findings.counts()


@pytest.mark.parametrize("name", HONEST)
def test_labels_of_the_full_read_are_refused_beside_held_out_votes(corpus: tuple[Votes, Utterances], name: str) -> None:
    labels = fuse(in_full(corpus[0]), FuseSettings(**HONEST[name]), utterances=corpus[1]).labels
    with pytest.raises(InputError, match="60 of the 60 labels.*Fuse the same votes files as given here"):
        align(labels, *corpus, QUICK)


def test_one_label_that_saw_one_held_out_vote_is_refused_and_named(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    seen = (pl.col("utterance_id") == "c/u33") & (pl.col("annotator") == "c/r4")
    fewer = votes.frame.with_columns(held_out=pl.col("held_out") & ~seen)
    labels = fuse(Votes.of(fewer, about=votes.about), FuseSettings(method="human"), utterances=utterances).labels
    with pytest.raises(InputError, match=r"1 of the 60 labels.*\(the first is c/u33: 3, not 2\)"):
        align(labels, votes, utterances, QUICK)


def test_the_message_also_names_a_missing_votes_file(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    labels = fuse(votes, FuseSettings(method="human"), utterances=utterances).labels
    less = Votes.of(votes.frame.filter(pl.col("annotator") != "c/r1"), about=votes.about)
    with pytest.raises(InputError, match="50 of the 60 labels.*or a votes file is missing here"):
        align(labels, less, utterances, QUICK)


def test_without_held_out_votes_missing_votes_are_a_finding(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    kept = votes.frame.filter(~pl.col("held_out"))
    labels = fuse(Votes.of(kept, about=votes.about), FuseSettings(method="human"), utterances=utterances).labels
    less = Votes.of(kept.filter(pl.col("annotator") != "c/r1"), about=votes.about)
    assert align(labels, less, utterances, QUICK).findings.counts()["votes_missing"] == 50


def test_labels_of_unknown_making_and_labels_without_human_votes_are_let_through(
    corpus: tuple[Votes, Utterances],
) -> None:
    votes, utterances = corpus
    labels = fuse(votes, FuseSettings(method="human", consensus=True), utterances=utterances).labels
    bare = Labels(labels.frame, labels.about.with_(made_by=None))
    assert align(bare, votes, utterances, QUICK).metrics["scores"] is not None
    without_human_votes = Labels(labels.frame.with_columns(human_votes=pl.lit(0.0)), labels.about)
    assert align(without_human_votes, votes, utterances, QUICK).metrics["scores"] is not None


def test_the_command_refuses_such_labels_with_one_sentence_and_code_2(
    corpus: tuple[Votes, Utterances], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes, utterances = corpus
    votes.write(tmp_path / "votes.parquet")
    in_full(votes).write(tmp_path / "full.parquet")
    utterances.write(tmp_path / "utterances.parquet")
    labels, report = str(tmp_path / "labels.parquet"), tmp_path / "report.html"
    assert run(["fuse", str(tmp_path / "full.parquet"), "--method", "human", "-o", labels, "--quiet"]) == 0
    given = ["--votes", str(tmp_path / "votes.parquet"), "--utterances", str(tmp_path / "utterances.parquet")]
    assert run(["align", labels, *given, "-o", str(report), "--quiet"]) == 2
    stderr = capsys.readouterr().err
    assert "Held-out votes were used in the fit" in stderr
    assert "Traceback" not in stderr
    assert not report.exists()


def test_the_exchange_test_of_every_proxy_is_a_finding(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    labels = fuse(votes, FuseSettings(method="human"), utterances=utterances).labels
    exchanges = align(labels, votes, utterances, QUICK).findings.frame.filter(pl.col("kind") == "exchange")
    proxies = votes.frame.filter(pl.col("source") == "proxy")["annotator"].unique().sort().to_list()
    assert sorted(exchanges["where"]) == proxies
    assert exchanges["message"].str.contains("utterances").all()


def test_a_proxy_trained_on_the_votes_of_the_fit_is_a_problem(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    fit = pl.col("source").eq("human") & ~pl.col("held_out") & pl.col("annotator").is_in(["c/r0", "c/r1"])
    learned = votes.frame.filter(fit).with_columns(
        annotator=pl.lit("learned"), source=pl.lit("proxy"), secondary=pl.lit(None, dtype=pl.List(pl.String)),
        draw=pl.col("annotator").rank("dense").over("utterance_id").cast(pl.Int32),
    )  # fmt: skip
    both = Votes.of(pl.concat([votes.frame, learned]), about=votes.about)
    labels = fuse(both, FuseSettings(method="human"), utterances=utterances).labels
    findings = align(labels, both, utterances, QUICK).findings.frame
    assert findings.filter(pl.col("kind") == "exchange")["where"].to_list() == ["alm"]
    leaks = findings.filter((pl.col("kind") == "proxies_leak") & pl.col("message").str.contains("better than held-out"))
    assert leaks["where"].to_list() == ["learned"]
    assert leaks["severity"].to_list() == ["problem"]

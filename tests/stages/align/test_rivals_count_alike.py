"""The rivals beside the fused labels are fitted to the votes as fuse counted them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies.ballots import counting_of
from alm_proxies.cli.app import run
from alm_proxies.compare.rivals import ALONE, alone_of
from alm_proxies.estimators.counts import counts_of
from alm_proxies.seeds import generator
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")
SETTINGS: dict[str, dict[str, Any]] = {
    "merge": {"merge": {"primary": 0.7, "secondary": 0.3}},
    "consensus": {"consensus": True},
    "columns": {"columns": ("loud",)},
}


@pytest.fixture(scope="module")
def corpus() -> tuple[Votes, Utterances]:
    """90 utterances of 30 speakers: two votes to fit, with secondary labels, a consensus, a proxy; 25 have three votes
    held out, too few for a learning curve, which takes long.
    """
    random = generator(5, "rivals")
    truth = random.dirichlet([0.5] * 3, 90)
    rows = []
    for place, share in enumerate(truth):
        own = {"utterance_id": f"c/u{place:02}", "source": "human", "secondary": None, "held_out": False}
        for rater in range(5 if place < 25 else 2):
            first, second = (LABELS[k] for k in random.choice(3, 2, replace=False, p=(share + 0.05) / 1.15))
            fit = rater < 2
            rows.append(
                {**own, "annotator": f"c/r{rater}", "label": first, "held_out": not fit}
                | ({"secondary": [second]} if fit else {})
            )
        rows.append({**own, "annotator": "c/consensus", "label": LABELS[int(share.argmax())]})
        heard = LABELS[int(random.choice(3, p=share))]
        rows.append({**own, "annotator": "alm", "source": "proxy", "label": heard})
    people = {
        "utterance_id": [f"c/u{place:02}" for place in range(90)],
        "speaker": [f"c/s{place % 30}" for place in range(90)],
        "loud": truth[:, 0] + random.normal(0, 0.1, 90),
    }
    schema = {"secondary": pl.List(pl.String)}
    return Votes.of(pl.DataFrame(rows, schema_overrides=schema), taxonomy=LABELS), Utterances.of(pl.DataFrame(people))


def fused(corpus: tuple[Votes, Utterances], **counting: Any) -> Labels:
    return fuse(corpus[0], FuseSettings(method="gated", classes=3, **counting), utterances=corpus[1]).labels


def alone(report: Alignment) -> float:
    return next(
        score["nll_per_vote"]["value"] for score in report.metrics["scores"]["overall"] if score["method"] == ALONE
    )


def expected(corpus: tuple[Votes, Utterances], made: Labels | None = None, **counting: Any) -> float:
    """Log loss of the raters' held-out votes by the labels' method on human votes counted with these settings."""
    settings = FuseSettings(**counting)
    given = {"merge": settings.merge, "consensus": settings.consensus, "columns": settings.columns}
    counts = counts_of(corpus[0], utterances=corpus[1], **given)
    labels = alone_of(counts, corpus[0], made or fused(corpus, **counting), seed=0).labels.frame
    held = corpus[0].frame.filter("held_out").join(labels, on="utterance_id")
    own = pl.coalesce(pl.when(pl.col("label") == label).then(pl.col(f"p_{label}")) for label in LABELS)
    return float(held.select(-own.log().mean()).item())


@pytest.mark.parametrize("name", SETTINGS)
def test_the_rivals_are_fitted_to_the_votes_as_the_labels_say_they_were_counted(
    corpus: tuple[Votes, Utterances], name: str
) -> None:
    report = align(fused(corpus, **SETTINGS[name]), *corpus, AlignSettings(examples=0))
    assert alone(report) == pytest.approx(expected(corpus, **SETTINGS[name]))
    assert alone(report) != pytest.approx(expected(corpus), abs=1e-6)
    assert "counting_not_known" not in report.findings.counts()


def test_a_held_out_consensus_label_is_not_scored_against(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    away = pl.col("held_out") | pl.col("annotator").str.ends_with("/consensus")
    kept_back = Votes.of(votes.frame.with_columns(held_out=away), about=votes.about)
    reports = [
        align(fused((table, utterances)), table, utterances, AlignSettings(examples=0)) for table in (votes, kept_back)
    ]
    assert alone(reports[0]) == pytest.approx(alone(reports[1]), abs=1e-12)


def test_labels_without_a_record_of_counting_are_a_finding(
    corpus: tuple[Votes, Utterances],
) -> None:
    labels = fused(corpus, **SETTINGS["merge"])
    silent = Labels(labels.frame, labels.about.with_(made_by=None))
    report = align(silent, *corpus, AlignSettings(examples=0))
    assert report.findings.counts()["counting_not_known"] == 1
    assert alone(report) == pytest.approx(expected(corpus, silent))


def test_a_column_that_the_utterances_lack_is_a_finding(corpus: tuple[Votes, Utterances]) -> None:
    bare = Utterances.of(corpus[1].frame.drop("loud"))
    report = align(fused(corpus, columns=("loud",)), corpus[0], bare, AlignSettings(examples=0))
    assert report.findings.counts()["column_lacking"] == 1
    assert alone(report) == pytest.approx(expected(corpus))


def test_on_the_command_line_align_counts_like_fuse_without_flags(
    corpus: tuple[Votes, Utterances], tmp_path: Path
) -> None:
    votes, utterances, labels, page = (str(tmp_path / n) for n in ("v.parquet", "u.parquet", "l.parquet", "p.html"))
    corpus[0].write(votes)
    corpus[1].write(utterances)
    flags = ["--consensus", "--column", "loud", "--merge", "primary=0.7,secondary=0.3"]
    assert (
        run(["fuse", votes, "--utterances", utterances, "-o", labels, "--method", "weighted", *flags, "--quiet"]) == 0
    )
    counting = counting_of(Labels.read(labels).about)
    assert counting is not None
    assert (counting.consensus, counting.columns) == (True, ("loud",))
    assert counting.merge.secondary == pytest.approx(0.3)
    assert run(["align", labels, "--votes", votes, "--utterances", utterances, "-o", page, "--quiet"]) == 0
    scores = json.loads((tmp_path / "p.metrics.json").read_text())["scores"]["overall"]
    nll = next(score["nll_per_vote"]["value"] for score in scores if score["method"] == ALONE)
    assert np.isclose(
        nll,
        expected(
            corpus, Labels.read(labels), consensus=True, columns=("loud",), merge={"primary": 0.7, "secondary": 0.3}
        ),
    )

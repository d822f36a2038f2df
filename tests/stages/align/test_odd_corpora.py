"""Corpora at the edges: the sentences and charts of the report are about what there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from alm_proxies.estimators.account import NO_GAIN, NOT_TESTED
from alm_proxies.report.charts import Curves
from alm_proxies.report.page import Section, Text
from alm_proxies.seeds import generator
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")
QUICK = AlignSettings(examples=0)
PROXY = pl.col("source") == "proxy"
PLACE = pl.col("utterance_id").str.slice(3).cast(pl.Int64)


def corpus(utterances: int = 80, *, proxies: int = 1, fit: int = 2, held_out: int = 2) -> tuple[Votes, Utterances]:
    """Utterances of ten speakers, and proxies that draw four votes each from the truth."""
    random = generator(5, "odd corpora")
    rows: list[dict[str, Any]] = []
    for place, share in enumerate(random.dirichlet(np.full(3, 0.5), utterances)):
        name = {"utterance_id": f"c/u{place:03}"}
        for draw, label in enumerate(random.choice(3, fit + held_out, p=share)):
            person = {"annotator": "c/crowd", "source": "human", "draw": draw, "held_out": draw >= fit}
            rows.append({**name, **person, "label": LABELS[label]})
        for proxy in range(proxies):
            for draw, label in enumerate(random.choice(3, 4, p=share)):
                machine = {"annotator": f"proxy-{proxy}", "source": "proxy", "draw": draw, "held_out": False}
                rows.append({**name, **machine, "label": LABELS[label]})
    ids = [f"c/u{place:03}" for place in range(utterances)]
    people = {"utterance_id": ids, "speaker": [f"c/s{place % 10}" for place in range(utterances)], "corpus": "c"}
    return Votes.of(pl.DataFrame(rows), taxonomy=LABELS), Utterances.of(pl.DataFrame(people))


def kept(votes: Votes, condition: pl.Expr) -> Votes:
    return Votes.of(votes.frame.filter(condition), about=votes.about)


def aligned(votes: Votes, utterances: Utterances, **settings: Any) -> Alignment:
    labels = fuse(votes, FuseSettings(**settings), utterances=utterances, quiet=True).labels
    return align(labels, votes, utterances, QUICK)


def sections(report: Alignment) -> Mapping[str, Section]:
    return {section.title: section for section in report.page.sections}


def notices(section: Section) -> str:
    return " ".join(block.words for block in section.blocks if isinstance(block, Text))


def test_proxies_alone_are_shown_without_empty_charts_and_without_people_who_did_not_vote() -> None:
    votes, utterances = corpus()
    found = sections(aligned(kept(votes, PROXY), utterances, method="pool"))
    assert "fit has no human vote" in found["What was fitted"].lead
    assert found["Label frequencies"].lead == "No utterance has a human vote."
    assert not any(hasattr(block, "draw") for block in found["Label frequencies"].blocks)
    assert "Distributions in the simplex" not in found
    assert "Have some utterances rated" in notices(found["Against held-out votes"])


def test_held_out_votes_that_no_rival_can_be_fitted_beside_are_not_denied() -> None:
    votes, utterances = corpus()
    labels = fuse(kept(votes, PROXY), FuseSettings(method="pool"), utterances=utterances, quiet=True).labels
    report = align(labels, kept(votes, PROXY | pl.col("held_out")), utterances, QUICK)
    found = sections(report)
    assert "No votes are held out" not in found["Against held-out votes"].lead
    assert "no human votes in the fit" in found["Against held-out votes"].lead
    assert "no votes were held out" not in report.page.headline
    assert report.metrics["held_out_votes"] == 160


def test_a_proxy_without_an_utterance_of_the_fit_was_not_tested_and_has_no_matrix() -> None:
    votes, utterances = corpus(held_out=0)
    report = aligned(kept(votes, pl.when(PROXY).then(PLACE >= 40).otherwise(PLACE < 40)), utterances)
    left = sections(report)["Proxies that do not count"]
    assert report.metrics["proxies"]["proxy-0"]["why"] == NOT_TESTED
    assert [proxy["why"] for proxy in report.metrics["fitted"]["proxies"]] == [NOT_TESTED]
    assert NO_GAIN not in left.lead
    assert "Each row" not in notices(left)
    assert "Distributions in the simplex" not in sections(report)


def test_labels_without_proxies_give_these_no_worth_and_unstated_ones_are_not_said_to_leave_them_out() -> None:
    votes, utterances = corpus()
    people = kept(votes, ~PROXY)
    labels = fuse(people, FuseSettings(method="human"), utterances=utterances, quiet=True).labels
    stated = align(labels, votes, utterances, QUICK)
    assert "leave the proxies out" in stated.page.headline
    bare = labels.frame.select("utterance_id", *(f"p_{label}" for label in LABELS))
    unstated = align(Labels.of(bare, taxonomy=LABELS), votes, utterances, QUICK)
    assert "leave the proxies out" not in unstated.page.headline
    for report in (stated, unstated):
        assert report.metrics["learning"]["worth"]["all"]
        assert report.metrics["worth_in_human_votes"] is None
        assert report.metrics["concentration_per_human_vote"] > 0
        gain = report.metrics["scores"]["overall"][0]["less_baseline"]
        assert gain["low"] < 0 < gain["high"]
        assert "as well as" not in report.page.headline


def test_labels_of_certainty_have_an_infinite_log_loss_and_no_verdict_of_too_few_speakers() -> None:
    votes, utterances = corpus()
    labels = fuse(votes, FuseSettings(method="weighted"), utterances=utterances, quiet=True).labels
    sure = np.eye(3)[labels.distributions().argmax(1)]
    frame = labels.frame.with_columns(*(pl.Series(f"p_{label}", sure[:, j]) for j, label in enumerate(LABELS)))
    report = align(Labels.of(frame.drop("entropy", "ambiguity"), about=labels.about), votes, utterances, QUICK)
    assert "given no probability" in report.page.headline
    assert "few speakers" not in report.page.headline + report.page.figures[0].note
    for chart in report.page.charts:
        assert '="inf' not in chart.wide
        assert "Minf" not in chart.wide
    thirds = report.metrics["within_thirds_by_what_cuts"]
    values = [methods["fused labels"]["nll_per_vote"]["value"] for by in thirds.values() for methods in by.values()]
    assert None in values
    assert all(value is None or value < 5 for value in values)
    reason = report.metrics["reasons"]["learning/fused/value"]
    assert reason.startswith("infinite")


def test_curves_of_proxies_that_are_not_drawn_are_named() -> None:
    report = aligned(*corpus(proxies=7, held_out=0), method="weighted")
    chart = next(chart for chart in report.page.charts if chart.name == "saturation")
    assert isinstance(chart, Curves)
    drawn = {line.series.name for line in chart.lines}
    others = [f"proxy-{place}" for place in range(7) if f"proxy-{place}" not in drawn]
    assert others == ["proxy-4", "proxy-5", "proxy-6"]
    assert all(name in chart.note for name in others)
    assert set(others) < set(report.metrics["saturation"])


def test_a_difference_that_no_table_shows_makes_no_headline() -> None:
    votes, utterances = corpus(200)
    same = Votes.of(votes.frame.with_columns(label=pl.lit("sad")), about=votes.about)
    report = aligned(same, utterances, method="weighted")
    gain = report.metrics["scores"]["overall"][0]["less_baseline"]
    assert gain["value"] > -0.0005
    assert gain["high"] < 0
    assert "lower the log loss" not in report.page.headline
    assert "better than these labels" not in report.page.headline

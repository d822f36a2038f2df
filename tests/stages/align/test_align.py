from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest
from wording import Wording

from alm_proxies.compare import worth
from alm_proxies.compare.rivals import alone_of, rivals
from alm_proxies.compare.worth import DRAWS
from alm_proxies.errors import InputError
from alm_proxies.estimators.counts import counts_of
from alm_proxies.estimators.dirichlet import Pool
from alm_proxies.estimators.gated import Gated
from alm_proxies.report.page import Text
from alm_proxies.stages.align.agreement import OF_DISTRIBUTIONS
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.tables import AnnotatorCard, Labels, Utterances, Votes

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
QUICK = AlignSettings(examples=4)


@pytest.fixture(scope="module")
def fused(corpus: tuple[Votes, Utterances]) -> Labels:
    return Gated(8, 0.01).fit(corpus[0]).predict(corpus[0])


@pytest.fixture(scope="module")
def report(corpus: tuple[Votes, Utterances], fused: Labels) -> Alignment:
    """With as many draws as users have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "DRAWS", DRAWS)
        return align(fused, *corpus, QUICK)


@pytest.fixture(scope="module")
def small(corpus: tuple[Votes, Utterances]) -> tuple[Labels, Votes, Utterances]:
    """A sixth of the clips with their labels: for what shows itself whatever the numbers."""
    votes, utterances = corpus
    kept = pl.col("utterance_id").is_in(utterances.frame["utterance_id"].sort().gather_every(6).implode())
    few = Votes.of(votes.frame.filter(kept), about=votes.about)
    return Gated(4, 0.01).fit(few).predict(few), few, Utterances.of(utterances.frame.filter(kept))


def test_the_headline_starts_with_log_loss_and_jsd(report: Alignment) -> None:
    assert report.page.headline.startswith("The proxies lower the log loss of held-out votes by 0.")
    assert " nats per vote and the JSD from 0." in report.page.headline
    assert "human vote" not in report.page.headline.partition(".")[0]
    worth = report.metrics["worth_in_human_votes"]["all"]
    assert worth["low"] <= worth["votes"] <= (worth["beyond"] if worth["high"] is None else worth["high"])
    assert worth["votes"] > 0.5
    assert any("reach 90 % of the possible gain" in figure.name for figure in report.page.figures)


def test_every_sentence_of_a_page_with_proxies_is_pinned(report: Alignment, wording: Wording) -> None:
    wording.page(report.page.html())


def test_every_log_loss_is_given_with_its_number_of_utterances(
    small: tuple[Labels, Votes, Utterances], report: Alignment
) -> None:
    assert "On the held-out votes of 900 utterances" in report.page.summary
    assert any("over 900 utterances" in figure.note for figure in report.page.figures)
    _, votes, utterances = small
    less = (
        (pl.col("annotator") == "crema_d/crowd") & (pl.col("draw") == 0) & pl.col("utterance_id").str.contains("_ANG_")
    )
    uneven = Votes.of(votes.frame.filter(~less), about=votes.about)
    result = align(Gated(4, 0.01).fit(uneven).predict(uneven), uneven, utterances, QUICK)
    some = result.metrics["learning"]["utterances"]
    assert 30 < some < 150
    assert f"These are {some} of the 150 utterances with held-out votes" in result.page.sections[0].lead
    assert f"Log loss of the same held-out votes of {some} utterances" in result.page.html()
    assert result.page.sections[0].lead.count("those with 3 votes in the fit and 4 or more held-out votes") == 1


def test_concentration_gain_is_explained_next_to_the_worth_on_held_out_votes(fused: Labels, report: Alignment) -> None:
    worth = report.metrics["worth_in_human_votes"]["all"]
    assert worth["concentration_gain"] == pytest.approx(fused.frame["concentration_gain"].mean())
    rise = report.metrics["concentration_per_human_vote"]
    strength = report.metrics["learning"]["strength"]
    assert rise == pytest.approx((strength[5] - strength[2]) / 3)
    assert strength == sorted(strength)
    text = next(block.words for block in report.page.sections[0].blocks if isinstance(block, Text))
    assert f"were worth {worth['votes']:.1f} human vote" in text
    assert f"`concentration_gain`, {worth['concentration_gain']:.1f} on average" in text
    assert f"equal {worth['concentration_gain'] / rise:.1f} human votes" in text


def test_worthless_proxies_get_no_gain_in_the_headline(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    is_proxy = pl.col("source") == "proxy"
    shuffled = pl.col("label").filter(is_proxy).shuffle(seed=1)
    proxies = votes.frame.filter(is_proxy).with_columns(label=shuffled)
    noise = Votes.of(pl.concat([votes.frame.filter(~is_proxy), proxies]), about=votes.about)
    result = align(Gated(8, 0.03).fit(noise).predict(noise), noise, utterances, QUICK)
    assert "worth" not in result.page.headline
    assert not any("90 % of the possible gain" in figure.name for figure in result.page.figures)
    gain = result.metrics["scores"]["overall"][0]["less_baseline"]
    assert gain["high"] > -0.002


def test_every_method_is_scored_on_the_same_held_out_votes(report: Alignment) -> None:
    overall = {score["method"]: score for score in report.metrics["scores"]["overall"]}
    assert list(overall) == [
        "fused labels", "human votes alone", "human shares", "weighted", "pool", "auto without proxies"
    ]  # fmt: skip
    assert len({score["utterances"] for score in overall.values()}) == 1
    nll = {name: score["nll_per_vote"]["value"] for name, score in overall.items()}
    assert nll["fused labels"] < nll["weighted"] < nll["pool"]


def test_the_paired_gain_is_the_difference_of_the_losses(report: Alignment) -> None:
    overall = {score["method"]: score for score in report.metrics["scores"]["overall"]}
    alone = overall["human votes alone"]["nll_per_vote"]["value"]
    for name, score in overall.items():
        if score["less_baseline"] is not None:
            assert score["less_baseline"]["value"] == pytest.approx(score["nll_per_vote"]["value"] - alone), name


def test_held_out_votes_never_reach_a_rival_s_fit(corpus: tuple[Votes, Utterances], fused: Labels) -> None:
    votes, utterances = corpus
    other = votes.frame.with_columns(label=pl.when("held_out").then(pl.lit("sad")).otherwise("label"))
    rivals_of = []
    for table in (votes, Votes.of(other, about=votes.about)):
        counts = counts_of(table, utterances=utterances)
        rivals_of.append(rivals(counts, fused, alone_of(counts, table, fused, seed=0), seed=0))
    for name, labels in rivals_of[0].items():
        assert labels.frame.equals(rivals_of[1][name].frame), name


def test_the_learning_curve_falls_and_meets_the_scores_at_the_votes_given(report: Alignment) -> None:
    learned = report.metrics["learning"]
    losses = [value["value"] for value in learned["human"]]
    assert learned["given"] == 3
    assert learned["at"] == [1, 2, 3, 4, 5, 6]
    assert losses == sorted(losses, reverse=True)
    overall = {score["method"]: score["nll_per_vote"]["value"] for score in report.metrics["scores"]["overall"]}
    # averages over draws, of which the scores are one
    assert learned["draws"] == 8
    assert losses[2] == pytest.approx(overall["human votes alone"], abs=0.02)
    assert learned["fused"]["value"] == pytest.approx(overall["fused labels"], abs=0.02)


def test_every_group_column_and_stratum_is_reported(report: Alignment) -> None:
    within = report.metrics["scores"]["within"]
    assert set(within) == {
        "agreement of the human votes", "ambiguity of the label", "most likely label", "gender", "age",
        "ambiguity of the held-out votes",
    }  # fmt: skip
    assert set(within["gender"]) == {"female", "male"}
    for title in ("gender", "age"):
        total = sum(scores[0]["utterances"] for scores in within[title].values())
        assert total == report.metrics["scores"]["overall"][0]["utterances"]


def test_the_confusion_matrix_is_that_of_the_votes(corpus: tuple[Votes, Utterances], report: Alignment) -> None:
    shares = {
        source: corpus[0].frame.filter(pl.col("source") == source).group_by("utterance_id").agg(
            *((pl.col("label") == label).mean().alias(label) for label in LABELS)
        ).sort("utterance_id")
        for source in ("human", "proxy")
    }  # fmt: skip
    human, proxy = (shares[source].select(LABELS).to_numpy() for source in ("human", "proxy"))
    expected = human.T @ proxy / human.sum(0)[:, None]
    assert np.allclose(report.metrics["confusion_human_by_proxy"], expected)
    assert np.allclose([row["human"]["value"] for row in report.metrics["label_shares"]], human.mean(0))


def test_the_same_input_gives_the_same_page_and_numbers(
    small: tuple[Labels, Votes, Utterances],
) -> None:
    fused, votes, utterances = small
    shuffled = Votes.of(votes.frame.sample(fraction=1.0, shuffle=True, seed=3), about=votes.about)
    again = align(Labels(fused.frame.reverse(), fused.about), shuffled, utterances, QUICK)
    first = align(fused, votes, utterances, QUICK)
    assert json.dumps(again.metrics) == json.dumps(first.metrics)
    assert again.page.html() == first.page.html()


def test_the_numbers_are_json_without_nan_and_the_page_is_small(report: Alignment) -> None:
    json.dumps(report.metrics, allow_nan=False)
    assert len(report.page.html().encode()) < 3_000_000


def test_without_held_out_votes_the_report_says_what_it_cannot_and_how_to_get_it(
    small: tuple[Labels, Votes, Utterances],
) -> None:
    fused, votes, utterances = small
    result = align(fused, _without_held_out(votes), utterances, QUICK)
    assert "no votes were held out" in result.page.headline
    assert "--hold-out" in result.page.html()
    assert result.metrics["scores"] is None
    assert "nothing_held_out" in result.findings.counts()
    names = [chart.name for chart in result.page.charts]
    assert "confusion-counts-0" in names
    assert [name for name in names if not name.startswith("confusion-")] == [
        "shares", "confusion", "agreement", "saturation", "variance", "simplex"
    ]  # fmt: skip


def test_without_proxies_the_human_parts_are_reported(small: tuple[Labels, Votes, Utterances]) -> None:
    _, votes, utterances = small
    people = Votes.of(votes.frame.filter(pl.col("source") == "human"), about=votes.about)
    result = align(Gated(8, 0.01).fit(people).predict(people), people, utterances, QUICK)
    assert result.page.headline.startswith("No proxy voted")
    assert [score["method"] for score in result.metrics["scores"]["overall"]] == [
        "fused labels", "human votes alone", "human shares"
    ]  # fmt: skip
    assert result.page.figures[0].note.endswith("for human shares")
    assert "learning" in [chart.name for chart in result.page.charts]
    assert "confusion" not in [chart.name for chart in result.page.charts]


def test_the_headline_reports_labels_without_proxies(small: tuple[Labels, Votes, Utterances]) -> None:
    _, votes, utterances = small
    people = Votes.of(votes.frame.filter(pl.col("source") == "human"), about=votes.about)
    result = align(Gated(8, 0.01).fit(people).predict(people), votes, utterances, QUICK)
    assert result.page.headline.startswith("The fused labels leave the proxies out.")
    assert "human votes: the worth" not in result.page.html()
    assert not any("90 % of the possible gain" in figure.name for figure in result.page.figures)


def test_the_headline_reports_labels_that_wrong_proxies_made_worse(small: tuple[Labels, Votes, Utterances]) -> None:
    _, votes, utterances = small
    listener = votes.frame.filter(pl.col("annotator") == "listener")
    wrong = listener.with_columns(label=pl.col("label").replace(LABELS, (*LABELS[1:], LABELS[0])))
    misled = Votes.of(pl.concat([votes.frame.filter(pl.col("source") == "human"), wrong]), about=votes.about)
    assert "made the labels worse" in align(Pool().fit(misled).predict(misled), misled, utterances, QUICK).page.headline


def test_the_alt_test_needs_known_raters(small: tuple[Labels, Votes, Utterances], report: Alignment) -> None:
    assert "raters of 'crema_d/crowd' are not known" in report.metrics["cannot"]["alt_test"]
    fused, votes, utterances = small
    rater = pl.lit("crema_d/rater") + pl.col("draw").cast(pl.String)
    named = votes.frame.with_columns(annotator=pl.when(pl.col("source") == "human").then(rater).otherwise("annotator"))
    result = align(fused, _without_held_out(Votes.of(named, about=votes.about)), utterances, QUICK)
    assert [test["annotator"] for test in result.metrics["alt_tests"]] == ["face", "listener"]
    assert all(test["raters"] for test in result.metrics["alt_tests"])
    assert "alt_test" not in result.metrics["cannot"]


def test_stated_distributions_count_as_one_vote_each(small: tuple[Labels, Votes, Utterances]) -> None:
    _, votes, utterances = small
    shares = votes.frame.filter(pl.col("annotator") == "listener").group_by("utterance_id", "label").agg(
        weight=pl.len().cast(pl.Float64)
    )  # fmt: skip
    total = pl.col("weight").sum().over("utterance_id")
    stated = shares.with_columns(
        weight=pl.col("weight") / total, annotator=pl.lit("stated"), source=pl.lit("proxy"), draw=pl.lit(0, pl.Int32)
    )
    human = votes.frame.filter(pl.col("source") == "human")
    about = votes.about.with_(annotators={"stated": AnnotatorCard(digest="c", model="m", elicit="state")})
    table = _without_held_out(Votes.of(pl.concat([human, stated], how="diagonal"), about=about))
    result = align(Gated(8, 0.01).fit(table).predict(table), table, utterances, QUICK)
    assert result.metrics["proxy_votes"] == len(utterances)
    assert result.metrics["agreement_at_equal_votes"]["votes"] == 1
    assert result.metrics["saturation"]["all proxies"]["at"] == [1]
    assert "one of them cannot be compared with one human vote" in result.page.html()
    assert OF_DISTRIBUTIONS in result.page.html()


def test_utterances_with_proxies_only_narrow_the_shares_of_the_corpus(
    corpus: tuple[Votes, Utterances], fused: Labels, report: Alignment
) -> None:
    votes, utterances = corpus
    ids = votes.frame["utterance_id"].unique().sort()
    dark = pl.col("utterance_id").is_in(ids.gather_every(2).implode()) & (pl.col("source") == "human")
    result = align(fused, Votes.of(votes.frame.filter(~dark), about=votes.about), utterances, QUICK)
    assert report.metrics["corpus_shares"] is None
    shares = result.metrics["corpus_shares"]
    truth = [row["human"]["value"] for row in report.metrics["label_shares"]]
    assert shares["without_human"] == 450
    narrower = 0
    for j, true in enumerate(truth):
        assert shares["low"][j] <= true <= shares["high"][j]
        narrower += shares["high"][j] - shares["low"][j] < shares["human_high"][j] - shares["human_low"][j]
    assert narrower >= 4
    assert "make the intervals of the labels' shares narrower by" in result.page.html().replace("&#x27;", "'")
    assert "only human votes count" in report.page.html()


def test_a_large_corpus_is_sampled_with_a_finding(small: tuple[Labels, Votes, Utterances]) -> None:
    result = align(small[0], _without_held_out(small[1]), small[2], AlignSettings(at_most=100, examples=0))
    assert result.metrics["utterances"] == 100
    assert result.findings.counts()["sampled"] == len(small[0]) - 100


def test_the_held_out_section_of_a_sample_says_what_the_rivals_are_fitted_to(
    small: tuple[Labels, Votes, Utterances], report: Alignment
) -> None:
    sample = align(*small, AlignSettings(at_most=100, examples=0))
    leads = [
        next(s.lead for s in each.page.sections if s.title == "Against held-out votes") for each in (sample, report)
    ]
    assert ["100 in this report" in lead for lead in leads] == [True, False]


def test_messages_of_findings_end_without_and_fixes_with_a_full_stop(
    small: tuple[Labels, Votes, Utterances], report: Alignment
) -> None:
    fused, votes, utterances = small
    kept = votes.frame.filter(~pl.col("held_out")).head(-60)
    many = Utterances.of(utterances.frame.with_columns(take=pl.int_range(pl.len()), corpus=pl.lit("iemocap")))
    sparse = align(fused, Votes.of(kept, about=votes.about), many, AlignSettings(at_most=100, transcripts=True))
    rows = pl.concat([report.findings.frame, sparse.findings.frame])
    assert {"alt_test", "nothing_held_out", "sampled", "many_values", "kept_back"} <= set(rows["kind"])
    for message, fix in rows.select("message", "fix").iter_rows():
        assert not message.endswith("."), message
        assert not fix or (fix.endswith(".") and not fix.endswith("..")), fix


@pytest.mark.parametrize("utterances", [1, 5, 40])
def test_a_handful_of_utterances_gives_a_report_and_no_error(
    corpus: tuple[Votes, Utterances], fused: Labels, utterances: int
) -> None:
    few = fused.frame.head(utterances)
    result = align(Labels(few, fused.about), *corpus, QUICK)
    assert result.metrics["utterances"] == utterances
    assert len(result.page.html()) > 10_000


def test_unanimous_votes_give_a_report_and_no_error(small: tuple[Labels, Votes, Utterances]) -> None:
    _, votes, utterances = small
    same = Votes.of(votes.frame.with_columns(label=pl.lit("sad")), about=votes.about)
    fused = Gated(4, 0.01).fit(same).predict(same)
    assert align(fused, same, utterances, QUICK).metrics["variance"] is None


def test_one_human_vote_for_each_utterance_is_compared_with_no_other(small: tuple[Labels, Votes, Utterances]) -> None:
    _, votes, utterances = small
    human = (pl.col("source") == "human") & (pl.col("held_out") | (pl.col("draw") > 0))
    single = Votes.of(votes.frame.filter(~human), about=votes.about)
    assert single.frame.filter(pl.col("source") == "human")["utterance_id"].is_unique().all()
    result = align(Gated(4, 0.01).fit(single).predict(single), single, utterances, QUICK)
    assert result.metrics["agreement_at_equal_votes"] is None
    assert "two human votes" in result.metrics["reasons"]["agreement_at_equal_votes"]
    assert "nan" not in re.findall(r"[a-zA-Z]+", result.page.html().split("<script")[0])


def test_labels_and_votes_of_different_taxonomies_are_refused(corpus: tuple[Votes, Utterances]) -> None:
    labels = Labels.of(pl.DataFrame({"utterance_id": ["a"], "p_x": [0.5], "p_y": [0.5]}))
    with pytest.raises(InputError, match="Give the votes that these labels were fused from"):
        align(labels, *corpus)


def test_labels_without_any_vote_are_refused_in_a_sentence(corpus: tuple[Votes, Utterances], fused: Labels) -> None:
    strangers = fused.frame.with_columns(utterance_id=pl.lit("other/") + pl.col("utterance_id"))
    with pytest.raises(InputError, match="no utterance has both a label and a vote"):
        align(Labels(strangers, fused.about), *corpus)
    with pytest.raises(InputError, match="labels: has no rows"):
        align(Labels(fused.frame.head(0), fused.about), *corpus)


def _without_held_out(votes: Votes) -> Votes:
    """The votes of the fit and of the proxies: a report on them scores nothing, which takes most of its time."""
    return Votes.of(votes.frame.filter(~pl.col("held_out")), about=votes.about)

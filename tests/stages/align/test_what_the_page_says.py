"""Human votes of twelve known raters, one of whom answers at random: the page in words, and what it does not claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from wording import Wording

from alm_proxies.about import MadeBy
from alm_proxies.compare.rivals import FUSED, METHOD_OF
from alm_proxies.compare.strata import AGREEMENT
from alm_proxies.interval import Interval
from alm_proxies.seeds import generator
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.stages.align.words import _clearly_best, _strata_words
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "neutral", "sad")
QUICK = AlignSettings(examples=0)


@pytest.fixture(scope="module")
def corpus() -> tuple[Votes, Utterances]:
    """240 utterances of 30 speakers with seven votes each, four held out; the eighth rater answers at random."""
    random = generator(3, "known raters")
    rows: list[dict[str, Any]] = []
    for place, share in enumerate(random.dirichlet([0.4] * 4, 240)):
        for order, rater in enumerate(random.choice(12, 7, replace=False)):
            label = LABELS[int(random.choice(4, p=None if rater == 7 else share))]
            vote = {"utterance_id": f"c/u{place:03}", "annotator": f"c/r{rater:02}", "label": label}
            rows.append({**vote, "held_out": order >= 3})
    ids = [f"c/u{place:03}" for place in range(240)]
    people = {"utterance_id": ids, "speaker": [f"c/s{place % 30}" for place in range(240)], "corpus": "c"}
    return Votes.of(pl.DataFrame(rows), taxonomy=LABELS), Utterances.of(pl.DataFrame(people))


@pytest.fixture(scope="module")
def report(corpus: tuple[Votes, Utterances]) -> Alignment:
    labels = fuse(corpus[0], FuseSettings(method="human"), utterances=corpus[1]).labels
    return align(labels, *corpus, QUICK)


def page(report: Alignment) -> str:
    return report.page.html().replace("&#x27;", "'").replace("\u00a0", " ")


def test_the_headline_without_proxies_gives_the_reliability_of_the_human_votes(report: Alignment) -> None:
    result = report.metrics["human_agreement"]
    share = 100 * result["reliability"]["3"]["value"]
    sentence = (
        f"{share:.0f} % of the variance of the mean of an utterance's 3 human votes is due to the utterance, "
        "the rest depends on who voted."
    )
    assert report.page.headline == f"No proxy voted for a label. {sentence}"
    alpha = result["alpha"]["value"]
    assert share == pytest.approx(100 * 3 * alpha / (1 + 2 * alpha))
    assert result["median_votes_of_fit"] == 3
    assert "here k = 3, the median of the human votes of the fit" in page(report)
    assert report.page.sections[0].title == "Do the human raters agree?"
    assert f"Krippendorff's alpha of the human votes is {alpha:.2f}" in report.page.summary


def test_every_sentence_of_a_page_without_proxies_is_pinned(report: Alignment, wording: Wording) -> None:
    wording.page(report.page.html())


def test_only_the_rater_who_answers_at_random_stands_out(report: Alignment) -> None:
    apart = report.metrics["human_agreement"]["apart"]
    names = report.metrics["human_agreement"]["raters"]
    assert apart["compared"] == 12
    assert [names[rater["rater"]] for rater in apart["lowest"] if rater["stands_out"]] == ["c/r07"]
    assert "c/r07 agrees with the others less than those with each other" in page(report)
    assert "Each rater compared with the others: all 12, the lowest first" in page(report)


def test_raters_who_are_not_known_are_not_compared(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    order = pl.int_range(pl.len()).over("utterance_id").cast(pl.Int32)
    frame = votes.frame.with_columns(annotator=pl.lit("c/crowd"), draw=order)
    crowd = Votes.of(frame, about=votes.about)
    labels = fuse(crowd, FuseSettings(method="human"), utterances=utterances).labels
    result = align(labels, crowd, utterances, QUICK)
    assert "The raters of the votes are not known" in page(result)
    assert result.metrics["human_agreement"]["alpha"]["value"] > 0.2


def test_the_headline_reports_votes_that_agree_only_by_chance(corpus: tuple[Votes, Utterances]) -> None:
    votes, utterances = corpus
    chance = Votes.of(votes.frame.with_columns(label=pl.col("label").shuffle(seed=1)), about=votes.about)
    labels = fuse(chance, FuseSettings(method="human"), utterances=utterances).labels
    assert "agree hardly more than by chance" in align(labels, chance, utterances, QUICK).page.headline


def test_a_significantly_better_rival_is_named_with_its_command(
    corpus: tuple[Votes, Utterances], report: Alignment
) -> None:
    assert "better than these labels" not in report.page.headline
    assert "To use it" not in report.page.summary
    labels = fuse(corpus[0], FuseSettings(method="human"), utterances=corpus[1]).labels
    shares = [pl.lit(1 / len(LABELS)).alias(f"p_{label}") for label in LABELS]
    flat = Labels.of(labels.frame.with_columns(shares).drop("entropy", "ambiguity"), about=labels.about)
    result = align(flat, *corpus, QUICK)
    assert result.page.headline.endswith("held-out votes better than these labels.")
    losses = {score["method"]: score["nll_per_vote"]["value"] for score in result.metrics["scores"]["overall"]}
    best = min(losses, key=lambda name: losses[name])
    assert f"a log loss of {losses[best]:.3f} against {losses['fused labels']:.3f}" in result.page.summary
    assert f"fuse with `--method {METHOD_OF[best]}`" in result.page.summary
    behind = result.metrics["scores"]["against_fused"][best]
    assert behind["value"] == pytest.approx(losses[best] - losses["fused labels"])


def test_few_utterances_make_few_bins_of_a_reliability_curve(report: Alignment) -> None:
    bins = report.metrics["reliability_bins"]["fused labels"]
    assert len(bins) == 6
    assert sum(bin_["utterances"] for bin_ in bins) == 240
    assert all(bin_["share"]["low"] <= bin_["share"]["value"] <= bin_["share"]["high"] for bin_ in bins)
    assert "6 bins of equal mass, 240 utterances" in page(report)


def test_the_glossary_explains_exactly_the_terms_on_the_page(report: Alignment) -> None:
    words = report.page.sections[-1]
    assert words.title == "Glossary"
    explained = str(words.blocks[0].html())
    assert all(word in explained for word in ("log loss (NLL), nats", "JSD floor", "human shares", "Krippendorff"))
    assert not any(
        word in explained for word in ("PPI++", "weighted", "concentration_gain", "alternative annotator test")
    )


def test_a_simulated_corpus_has_a_notice_at_the_top(corpus: tuple[Votes, Utterances]) -> None:
    utterances = corpus[1]
    votes = Votes.of(corpus[0].frame.filter(~pl.col("held_out")), about=corpus[0].about)
    labels = fuse(votes, FuseSettings(method="human"), utterances=utterances).labels
    simulated = Utterances(utterances.frame, utterances.about.with_(made_by=MadeBy(stage="simulate")))
    whole = page(align(labels, votes, simulated, QUICK))
    assert whole.index("This corpus is simulated: the speech is synthetic and the listeners are a model") < whole.index(
        "<h1>"
    )
    part = utterances.frame.with_columns(
        corpus=pl.when(pl.int_range(pl.len()) < 9).then(pl.lit("sim")).otherwise("corpus")
    )
    assert "The corpus sim is simulated:" in page(align(labels, votes, Utterances.of(part), QUICK))
    assert "simulated" not in page(align(labels, votes, utterances, QUICK))


@pytest.mark.parametrize(
    ("gains", "claimed"),
    [
        ({"all agree": (-0.09, -0.12, -0.06), "no majority": (-0.02, -0.07, 0.01)}, ""),
        ({"all agree": (-0.09, -0.12, -0.06), "no majority": (-0.02, -0.04, 0.01)}, "where the human votes all agree"),
        ({"all agree": (0.02, 0.01, 0.03), "no majority": (0.09, 0.07, 0.1)}, ""),
    ],
)
def test_a_stratum_is_named_best_only_if_its_interval_is_below_the_others(
    gains: dict[str, tuple[float, float, float]], claimed: str
) -> None:
    result = {name: Interval(*ends, "percentile", 30) for name, ends in gains.items()}
    assert _clearly_best({AGREEMENT: result}) == claimed


def with_a_proxy_of(speakers: int) -> Alignment:
    """60 utterances with three votes to fit, three held out, and a proxy that gives the true distributions."""
    random = generator(5, "two speakers")
    rows: list[dict[str, Any]] = []
    for place, share in enumerate(random.dirichlet([0.4] * 4, 60)):
        vote = {"utterance_id": f"c/u{place:03}", "source": "human", "held_out": False, "weight": 1.0}
        for order in range(6):
            label = LABELS[int(random.choice(4, p=share))]
            rows.append({**vote, "annotator": f"c/r{order}", "label": label, "held_out": order >= 3})
        for label, weight in zip(LABELS, share, strict=True):
            rows.append({**vote, "annotator": "model", "source": "proxy", "label": label, "weight": weight, "draw": 0})
    frame = pl.DataFrame(rows, schema_overrides={"draw": pl.Int32}).with_columns(pl.col("draw").fill_null(0))
    votes = Votes.of(frame, taxonomy=LABELS)
    ids = [f"c/u{place:03}" for place in range(60)]
    people = {"utterance_id": ids, "speaker": [f"c/s{place % speakers}" for place in range(60)], "corpus": "c"}
    utterances = Utterances.of(pl.DataFrame(people))
    labels = fuse(votes, FuseSettings(method="gated"), utterances=utterances).labels
    return align(labels, votes, utterances, QUICK)


@pytest.mark.parametrize(("speakers", "judged"), [(5, False), (6, True)])
def test_verdicts_are_given_only_where_speakers_suffice_for_a_small_p_value(speakers: int, judged: bool) -> None:
    written = with_a_proxy_of(speakers)
    (gain,) = (s["less_baseline"] for s in written.metrics["scores"]["overall"] if s["method"] == FUSED)
    assert gain["high"] < 0, "without the rule the proxies help"
    assert ("The proxies lower the log loss" in written.page.headline) == judged
    few = "Too few speakers to judge whether the proxies helped on these held-out votes; it takes 6 for a p-value below"
    assert (few in written.page.headline) != judged
    shares = "Too few speakers to judge whether proxies over- or under-use a label"
    assert (shares in page(written)) != judged
    (tested,) = written.findings.frame.filter(pl.col("kind") == "exchange")["message"]
    assert "model predicts votes of the fit no better" in tested, "which votes are held out is chance, for any speakers"


def test_strata_of_too_few_speakers_are_not_judged() -> None:
    sure, few = Interval(-0.09, -0.12, -0.06, "t", 6), Interval(0.09, 0.06, 0.12, "t", 5)
    assert (sure.is_below_zero, few.is_above_zero, few.can_be_judged) == (True, False, False)
    assert _clearly_best({AGREEMENT: {"all agree": sure}}) == ""
    assert _strata_words({AGREEMENT: {"all agree": sure, "no majority": few}}) == (
        "The log loss of held-out votes fell in every stratum known beforehand that can be judged. "
        "The other one has too few speakers."
    )
    known = replace(few, speakers=6)
    rose = _strata_words({AGREEMENT: {"all agree": sure, "no majority": known}})
    assert rose.endswith("rose where no label has a majority of the human votes.")
    assert _strata_words({AGREEMENT: {"all agree": few, "no majority": few}}) == "They improve on human votes alone."


def test_two_speakers_are_too_few_to_judge_the_proxies() -> None:
    written = with_a_proxy_of(2)
    assert written.page.headline.startswith("Too few speakers to judge whether the proxies helped")
    assert "n/a to n/a" not in page(written)
    assert "too few speakers for an interval, over 60 utterances" in page(written)
    assert "too few speakers for an interval, in addition to 3 given" in page(written)
    assert "own fits have not used." in page(written)
    assert "The intervals are over speakers and draws" not in page(written)
    worth = written.metrics["worth_in_human_votes"]["all"]
    assert (worth["low"], worth["high"]) == (None, None)
    assert "three speakers" in written.metrics["reasons"]["worth_in_human_votes/all/low"]

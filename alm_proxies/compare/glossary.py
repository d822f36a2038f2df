"""The words of the report that not every reader knows, one plain sentence each; a page lists those that occur on it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from alm_proxies.report.page import Column, Examples, Figure, Section, Table

_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        "held-out votes",
        r"held-out|held out",
        "Human votes that no fit has seen, kept so that labels can be judged by them.",
    ),
    (
        "log loss (NLL), nats",
        r"log loss|\bNLL\b|\bnats\b",
        "The mean of −ln p over the held-out votes, p being the probability that the label gave to the vote, with the "
        "nat as its unit; lower is better, and 0.01 less means that votes were given about 1 % more probability.",
    ),
    (
        "JSD (base 2)",
        r"\bJSD\b|[Dd]ivergence",
        "Jensen-Shannon divergence: how far two distributions lie apart, from 0, the same, to 1, nothing in common.",
    ),
    (
        "JSD floor",
        r"JSD floor",
        "What the true distribution itself would score, since it too is held against a few votes: no label can be "
        "expected to come below it.",
    ),
    (
        "Brier score",
        r"\bBrier\b",
        "The mean squared distance between a label and a held-out vote, from 0 to 2; lower is better.",
    ),
    (
        "worth in human votes",
        r"[Ww]orth of|were worth",
        "How many more human votes would predict held-out votes as well as the proxies did, read off the learning "
        "curve of human votes alone.",
    ),
    (
        "concentration_gain",
        r"concentration_gain|[Pp]roxy worth",
        "A column of the labels: how much the proxies add to the concentration; no held-out vote stands behind it.",
    ),
    (
        "concentration",
        r"[Cc]oncentration",
        "How firm a label is, counted in votes: a label of concentration 10 is as sure as the shares of 10 votes would "
        "be if one expected nothing beforehand.",
    ),
    (
        "strata known beforehand",
        r"known beforehand|[Ss]trat(a|um)",
        "Groups of utterances formed without a look at held-out votes: by how far the human votes of the fit agree, by "
        "the label's ambiguity, or by its likeliest label.",
    ),
    (
        "ambiguity",
        r"[Aa]mbiguity",
        "How evenly a distribution is spread over the labels: its entropy, from 0, one label only, to 1, all alike.",
    ),
    (
        "mixture",
        r"\bmixture\b",
        "A model of kinds of utterances, each with its own spread of human votes, learned from all of them together.",
    ),
    (
        "gated",
        r"\bgated\b",
        "The fusion in which proxies only tell which kind an utterance is likely to be, while what a kind sounds like "
        "to people is learned from human votes alone.",
    ),
    (
        "tuned weights, weighted",
        r"[Tt]uned weights|\bweighted\b",
        "The fusion that counts a proxy vote as a fixed part of a human vote, the part tuned by human votes left out.",
    ),
    (
        "pooling, pool",
        r"[Pp]ooling|method pool\b",
        "The fusion that counts every proxy vote as one human vote.",
    ),
    (
        "human shares + prior",
        r"human shares \+ prior",
        "The shares of an utterance's human votes, drawn towards those of the whole corpus by a tuned amount.",
    ),
    (
        "PPI++",
        r"PPI\+\+",
        "Prediction-powered inference: proxy votes narrow the interval of a label's share in the corpus as far as they "
        "prove right where humans voted too, and cannot bias it.",
    ),
    (
        "Krippendorff's alpha, kappa",
        r"Krippendorff|kappa",
        "Agreement beyond chance: 1 is perfect, 0 is what chance alone would give.",
    ),
    (
        "reliability of votes",
        r"Reliability|luck of who voted",
        "The part of the differences between utterances' vote shares that would come again with other raters; the rest "
        "is the luck of who voted.",
    ),
    (
        "calibration error (ECE)",
        r"\bECE\b|calibration error",
        "How far the probability of the likeliest label is from its share of the held-out votes, on average.",
    ),
    (
        "R²",
        r"R²",
        "The part of the differences between utterances' held-out shares that the labels explain; few votes keep it "
        "well below 1.",
    ),
    (
        "coverage",
        r"[Cc]overage",
        "How often held-out votes fall inside the interval that a label and its concentration promise.",
    ),
    (
        "alternative annotator test",
        r"[Aa]lternative annotator test|alt-test",
        "Whether a proxy agrees with the other raters about as well as one of them does; epsilon is what it is "
        "let off, since it costs less.",
    ),
)


def words_section(summary: Sequence[str], figures: Sequence[Figure], sections: Sequence[Section]) -> Section:
    """Every word above that occurs in the page, in plain sentences."""
    texts = [*summary, *(f"{figure.name} {figure.note}" for figure in figures)]
    for section in sections:
        texts += [section.title, section.lead]
        texts += [str(block.html()) for block in section.blocks if not isinstance(block, Examples)]
    text = "\n".join(texts)
    rows = [[word, sentence] for word, pattern, sentence in _WORDS if re.search(pattern, text)]
    table = Table.of([Column("Word"), Column("What it means here")], rows)
    return Section("Words", "What the words of this page mean.", (table,))

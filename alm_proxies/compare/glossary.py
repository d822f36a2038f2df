"""The glossary of the reports: one plain sentence per term; a page lists the terms that occur on it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from alm_proxies.estimators.names import METHODS
from alm_proxies.report.page import Column, Examples, Figure, Section, Table


def _as_a_cell(name: str) -> str:
    """Matches the name of a method as a cell of a table, or after the word method."""
    return rf">{name}<|method {name}\b"


_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        "held-out votes",
        r"held-out|held out",
        "Human votes that are not used in any fit, so that labels can be evaluated with them.",
    ),
    (
        "log loss (NLL), nats",
        r"[Ll]og loss|\bNLL\b|\bnats\b",
        "The mean of −ln p over the held-out votes, where p is the probability that the label gives to the vote; in "
        "nats. Lower is better: 0.01 less means about 1 % more probability for the votes.",
    ),
    (
        "JSD (base 2)",
        r"\bJSD\b|[Dd]ivergence",
        "Jensen-Shannon divergence between two distributions, from 0 (equal) to 1 (nothing in common).",
    ),
    (
        "JSD floor",
        r"JSD floor",
        "The JSD that the true distribution itself is expected to have against the same few votes, the same for every "
        "method: the part of a JSD that is due to the number of votes. Where no truth is given it is estimated from "
        "the held-out votes, with an error of up to a tenth. An over-confident label can have a JSD below it.",
    ),
    (
        "Brier score",
        r"\bBrier\b",
        "The mean squared distance between a label and a held-out vote, from 0 to 2; lower is better.",
    ),
    (
        "worth in human votes",
        r"[Ww]orth of|were worth",
        "The number of additional human votes that would predict held-out votes as well as the proxies do, from the "
        "learning curve of human votes alone.",
    ),
    (
        "concentration_gain",
        r"concentration_gain",
        "A column of the labels: how much the proxies add to the concentration. It is not checked with held-out votes.",
    ),
    (
        "concentration",
        r"[Cc]oncentration",
        "The strength of a label in votes, those of its prior included: under a flat prior over K labels, n votes give "
        "n + K.",
    ),
    (
        "strata known beforehand",
        r"known beforehand|[Ss]trat(a|um)",
        "Groups of utterances formed without held-out votes: by the agreement of the human votes of the fit, by the "
        "label's ambiguity, or by its most likely label.",
    ),
    (
        "ambiguity",
        r"[Aa]mbiguity",
        "The normalised entropy of a distribution, from 0 (one label only) to 1 (all labels equally likely).",
    ),
    (
        "human votes alone",
        r"[Hh]uman votes alone",
        "The labels that the human votes of the fit give without any proxy, by the method of the labels (by gated "
        "where they use no proxies or do not state it).",
    ),
    *((method.name, _as_a_cell(method.name), method.meaning) for method in METHODS.values()),
    (
        "PPI++",
        r"PPI\+\+",
        "Prediction-powered inference: proxy votes narrow the interval of a label's share in the corpus as far as they "
        "agree with human votes, without biasing it.",
    ),
    (
        "Krippendorff's alpha, kappa",
        r"Krippendorff|kappa",
        "Agreement beyond chance: 1 is perfect, 0 is agreement by chance.",
    ),
    (
        "reliability of votes",
        r"Reliability|luck of who voted",
        "The share of the variance of vote shares that is due to the utterances and would recur with other raters; the "
        "rest depends on who voted.",
    ),
    (
        "calibration error (ECE)",
        r"\bECE\b|calibration error",
        "The mean difference between the probability of the most likely label and its share of the held-out votes.",
    ),
    (
        "macro-F1, UAR",
        r"Macro-F1|UAR",
        "Of the most likely label against the most voted one: the mean F1 score over all labels, and the unweighted "
        "average recall over the labels that occur. With ties, an utterance where m labels tie counts by 1/m for each.",
    ),
    (
        "R²",
        r"R²",
        "The share of the variance of held-out vote shares that the labels explain; with few votes per utterance it is "
        "well below 1 even for perfect labels.",
    ),
    (
        "coverage",
        r"[Cc]overage",
        "How often held-out votes fall inside the interval given by a label and its concentration.",
    ),
    (
        "alternative annotator test",
        r"[Aa]lternative annotator test|alt-test",
        "A test of whether a proxy agrees with the other raters as well as one of them does; epsilon is the margin "
        "granted to it because it costs less.",
    ),
)


def words_section(summary: Sequence[str], figures: Sequence[Figure], sections: Sequence[Section]) -> Section:
    """The glossary section of a page: the terms that occur on it."""
    texts = [*summary, *(f"{figure.name} {figure.note}" for figure in figures)]
    for section in sections:
        texts += [section.title, section.lead]
        texts += [str(block.html()) for block in section.blocks if not isinstance(block, Examples)]
    text = "\n".join(texts)
    rows = [[word, sentence] for word, pattern, sentence in _WORDS if re.search(pattern, text)]
    table = Table.of([Column("Term"), Column("Meaning")], rows)
    return Section("Glossary", "The terms used on this page.", (table,))

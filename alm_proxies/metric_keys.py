"""Every other key of a metrics.json or metrics.jsonl: what was measured, and which keys hold text, yes or no, or names.

A new key that is no metric needs a line here; the documentation lists them.
"""

from __future__ import annotations

DESCRIPTIONS: dict[str, str] = {
    "utterances": "The number of utterances that a figure is about.",
    "speakers": "The number of known speakers.",
    "utterances_of_unknown_speakers": "The number of utterances whose speaker is not known.",
    "utterances_without_tie": "The utterances of accuracy, macro_f1 and uar: those with one most voted label.",
    "utterances_without_label": "Utterances with held-out votes, none for a label: only their ratings can be scored.",
    "resamples": "Resamples of the speakers; under 20, the number of speakers, each left out in turn.",
    "resamples_without_weights": "Those in which no weights reach equal shares; above 5 % there is no interval.",
    "votes": "The number of votes.",
    "draws": "The number of random draws that a figure is averaged over.",
    "human_votes": "Human votes of the fit.",
    "held_out_votes": "Human votes held out.",
    "proxy_votes": "Votes of proxies.",
    "proxy_annotators": "The names of the proxies.",
    "taxonomy": "The labels in order.",
    "labels": "The labels in order.",
    "label": "The label that an entry is about.",
    "converged": "Whether a fit had settled when it stopped.",
    "raters_count": "Whether raters by name count in the stack.",
    "told_transcripts": "Whether the annotator is given transcripts; null where it does not say.",
    "annotators": "The annotators behind a proxy: those of one base model.",
    "baseline": "The prediction that the others are compared with. Class shares have half a vote a label added.",
    "methods": "The figures of every prediction.",
    "fitted": "What the labels were fitted with: methods, weights, classes, penalties, proxies.",
    "proxies": "The figures of every proxy.",
    "counts": "Whether a proxy counts in the labels.",
    "why": "Why it does not.",
    "reason": "Why there is no figure.",
    "beside": "The proxies it was tested with.",
    "cost": "What a proxy's votes have cost: votes, price, currency.",
    "price": "A sum of money, in the currency of the annotator file.",
    "currency": "The currency of a price; empty where the annotator file states none.",
    "raters": "The raters, by name; in a test, one entry a rater.",
    "rater": "The rater that an entry is about.",
    "annotator": "The annotator that an entry is about.",
    "left_out": "The number left out: because of too few votes; in an evaluation, utterances that are not scored.",
    "items": "The number of items or utterances.",
    "name": "The subject of an entry.",
    "kind": "In a balance, classes, ambiguity or a group; in a training, step or epoch.",
    "method": "The method that an entry is about.",
    "measure": "The name of a score.",
    "by": "all, outcome (thirds of the held-out votes' entropy), observable (ambiguity known before) or a group.",
    "level": "The value of the stratum or group; in a stack, with or without proxies.",
    "reasons": "By path, * for any name or place: why a value is null.",
    "averages": "By metric: what it is an average over.",
    "cannot": "By name: the reason why a figure is missing.",
}
"""Keys that describe what was measured."""
NAMED: dict[str, tuple[str, ...]] = {
    "methods": ("prediction",),
    "proxies": ("proxy",),
    "cannot": ("figure",),
    "reasons": ("path",),
    "averages": ("metric",),
    "fitted": ("part", "part", "part", "part"),
}
"""Descriptions with names as keys below them."""
TEXTS = (
    "method", "level", "value", "proxy", "annotators", "annotator", "why", "reason", "beside", "taxonomy", "labels",
    "label", "baseline", "proxy_annotators", "raters", "rater", "name", "kind", "measure", "by", "worst",
    "currency", "refitted", "alone",
)  # fmt: skip
"""Names whose values may be text."""
FLAGS = ("counts", "converged", "raters_count", "stands_out", "won", "passed", "met", "blind", "told_transcripts",
         "in_equal_parts")  # fmt: skip
"""Names whose values are yes or no."""
MAPS_OF_TEXT = ("reasons", "averages", "cannot")
"""Names whose values map names to text."""
